"""Where examples come from and how they become text."""

import math
from dataclasses import dataclass, field
from typing import Final

from omegaconf import MISSING

from sweeplab.builtin.digits import ORIENTATIONS
from sweeplab.builtin.world import TARGETS
from sweeplab.config.unread import OF_DATA, refuse_unread
from sweeplab.runtime.errors import ConfigError, check_at_least, check_choice, refuse
from sweeplab.runtime.paths import expand_home


@dataclass
class DataPart:
    """One file of a mixture."""

    path: str = MISSING  # JSON array or JSON lines
    weight: float = MISSING  # its share of the training examples over the sum of all weights


@dataclass
class DataConfig:
    source: str = MISSING  # world | json | hub | mixture | digits
    name: str = MISSING  # the hub's name, or what reports call it
    target: str | None = None  # new_facts | operation, for source=world; rotated | upright, for source=digits
    path: str | None = None  # JSON array or JSON lines, for source=json
    heldout_path: str | None = None  # null: heldout_fraction of path is set aside
    subset: str | None = None  # the hub dataset's configuration
    split: str = MISSING  # of a hub dataset
    instruction_field: str = MISSING
    input_field: str | None = None  # a field that a record may lack
    output_field: str = MISSING
    messages_field: str | None = None  # chat messages instead of the three fields
    style: str = MISSING  # plain | alpaca | chatml | template
    mask_prompt: bool = MISSING  # count the loss on the response only
    heldout_fraction: float = MISSING
    num_examples: int | None = None  # for training; null: all
    fraction: float | None = None  # of the training examples, a smaller one within a larger one; null: all
    parts: list[DataPart] = MISSING  # for source=mixture
    packing: bool = MISSING  # several examples in a row of training.max_length, blind to each other
    tasks: list[str] = MISSING  # lm-eval tasks that go with this data
    retained_tasks: list[str] = field(default_factory=list)  # of tasks, those that measure what is forgotten
    objective: str = MISSING  # the metric that a study on this data optimizes

    def is_images(self) -> bool:
        """True for images and their classes, which go with an image classifier; else it is text."""
        return self.source == "digits"


STYLES: Final = ("plain", "alpaca", "chatml", "template")


def check_data(data: DataConfig) -> None:
    check_choice("data.source", data.source, ("world", "json", "hub", "mixture", "digits"))
    check_choice("data.style", data.style, STYLES)
    if data.source == "world":
        check_choice("data.target", data.target, TARGETS)
    if data.source == "digits":
        check_choice("data.target", data.target, ORIENTATIONS)
    check_parts(data)
    refuse_unread("data", data, OF_DATA)
    for key, path in (("data.path", data.path), ("data.heldout_path", data.heldout_path)):
        if path is not None and not expand_home(path).is_file():
            raise refuse(key, "must be a file", path, "check the path")
    if data.source == "json" and data.path is None:
        raise ConfigError("data.path is missing; give a JSON or JSONL file of instruction records: data.path=FILE")
    if (
        data.path is not None
        and data.heldout_path is not None
        and expand_home(data.path).samefile(expand_home(data.heldout_path))
    ):
        raise refuse(
            "data.heldout_path",
            f"must be another file than data.path={data.path}, or nothing is held out",
            data.heldout_path,
            "leave it null to set data.heldout_fraction of the records aside",
        )
    if data.source == "hub" and not data.name:
        raise ConfigError("data.name is missing; give the hub's name of a data set: data.name=ORG/NAME")
    if not 0 < data.heldout_fraction < 1:
        raise refuse("data.heldout_fraction", "must be between 0 and 1", data.heldout_fraction, "try 0.1")
    check_at_least("data.num_examples", data.num_examples, 2, "leave it null for all")
    if data.fraction is not None and not 0 < data.fraction <= 1:
        raise refuse("data.fraction", "must be above 0 and at most 1", data.fraction, "leave it null for all")
    if data.fraction is not None and data.num_examples is not None:
        raise ConfigError(
            f"data.fraction={data.fraction} and data.num_examples={data.num_examples} both say how many examples; "
            "leave one of them null"
        )


def check_parts(data: DataConfig) -> None:
    """The files of a mixture. Raises `ConfigError`."""
    if data.source != "mixture":
        if data.parts:
            raise ConfigError(f"data.parts goes with data=mixture, got data.source={data.source}; choose data=mixture")
        return
    if len(data.parts) < 2:
        given = f"got {len(data.parts)}"
        raise ConfigError(
            f"data.parts must name at least two files, {given}; give data.parts=[{{path: FILE, weight: 3}}, "
            "{path: FILE, weight: 1}], or data=json for one"
        )
    for place, part in enumerate(data.parts):
        if not expand_home(part.path).is_file():
            raise refuse(f"data.parts[{place}].path", "must be a file", part.path, "check the path")
        if not 0 < part.weight < math.inf:
            raise refuse(f"data.parts[{place}].weight", "must be a number above 0", part.weight, "try 1")
    if len({part.path for part in data.parts}) < len(data.parts):
        raise ConfigError("data.parts names a file twice; give each file once, with the sum of its weights")
    for key, value in (("data.path", data.path), ("data.heldout_path", data.heldout_path)):
        if value is not None:
            raise refuse(key, "does not go with data=mixture", value, "each part sets its own held-out share aside")
