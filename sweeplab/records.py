"""What a trial leaves behind: one record, its status, and the names, units and directions of its metrics."""

from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple

RECORD_VERSION: Final = 1


class Status(StrEnum):
    """How a trial ended."""

    FINISHED = "finished"
    PRUNED = "pruned"  # stopped early, since others did better by the same step
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"  # over executor.trial_seconds, or without progress for executor.stall_seconds
    FAILED = "failed"
    SKIPPED = "skipped"  # never started, since the plan says that it will not fit


class Metric(NamedTuple):
    """A number of a record that can be an objective or a column."""

    label: str
    unit: str
    direction: Literal["minimize", "maximize"]


METRICS: Final[dict[str, Metric]] = {
    "heldout_loss_nats_per_token": Metric("held-out loss", "nats/target", "minimize"),
    "num_trainable_params": Metric("trainable parameters", "", "minimize"),
    "base_bits_per_param": Metric("effective bits of the base", "bits/parameter", "minimize"),
    "adapter_bytes": Metric("adapter size", "bytes", "minimize"),
    "tokens_per_second": Metric("training speed", "tokens/s", "maximize"),
    "solo.step_seconds": Metric("time of a step alone, longest batch", "s", "minimize"),
    "solo.peak_resident_bytes": Metric("peak resident memory alone", "bytes", "minimize"),
    "solo.peak_allocated_bytes": Metric("peak GPU memory alone, allocated", "bytes", "minimize"),
    "phases.train.seconds": Metric("training time", "s", "minimize"),
    "phases.evaluate.seconds": Metric("evaluation time", "s", "minimize"),
    "phases.train.peak_resident_bytes": Metric("peak resident memory, training", "bytes", "minimize"),
    "phases.train.peak_allocated_bytes": Metric("peak GPU memory allocated, training", "bytes", "minimize"),
    "phases.train.peak_reserved_bytes": Metric("peak GPU memory reserved, training", "bytes", "minimize"),
}

SOLO_METRICS: Final = ("phases.", "tokens_per_second")  # beginnings: a trial has them for itself only where it is alone


def known_metric(name: str) -> bool:
    """True for a name of `METRICS` and for `scores.<task>.<metric>`."""
    parts = name.split(".")
    return name in METRICS or (parts[0] == "scores" and len(parts) == 3 and all(parts))


def direction(name: str) -> Literal["minimize", "maximize"]:
    """`minimize` or `maximize`; lm-eval's scores rise with quality, except perplexities and bits per byte."""
    if name in METRICS:
        return METRICS[name].direction
    return "minimize" if any(word in name for word in ("perplexity", "bits_per_byte")) else "maximize"


@dataclass
class Phase:
    """One phase of a trial: wall seconds, and the highest memory since the phase began. None: cannot be measured."""

    seconds: float
    peak_resident_bytes: int | None = None  # the process's resident set; Linux, CPU runs
    peak_allocated_bytes: int | None = None  # CUDA tensors
    peak_reserved_bytes: int | None = None  # CUDA, with what the allocator holds


@dataclass
class Score:
    """One metric of one task, lm-eval's or an image task's."""

    value: float
    stderr: float | None
    num_items: int


@dataclass
class Solo:
    """What a trial needs alone, from a few optimizer steps at its longest micro-batch before it trained."""

    step_seconds: float  # of the fastest
    num_steps: int
    num_tokens: int  # of each step
    peak_resident_bytes: int | None  # with the base, without other trials; Linux, CPU runs
    peak_allocated_bytes: int | None  # CUDA tensors


@dataclass
class LargerBatch:
    """A try that ran out of memory; the next one had smaller micro-batches and as many examples per step."""

    micro_batch_size: int
    accumulation: int
    reason: str


@dataclass
class TrainPoint:
    """Mean training loss in nats per target over the steps since the last point, and the rate of the last one."""

    step: int
    loss: float
    lr: float


@dataclass
class HeldoutPoint:
    """Held-out loss in nats per target after `step` optimizer steps."""

    step: int
    loss: float


@dataclass
class TrialRecord:
    """Everything that is known of one trial. A missing value is None, never a stand-in number."""

    number: int
    status: Status
    seed: int
    params: dict[str, Any]  # what the study varied, by key
    config: dict[str, Any]  # the resolved TrialConfig
    reason: str | None = None
    step: int | None = None  # optimizer steps taken
    phase: str | None = None  # where it ended, if not finished
    num_trainable_params: int | None = None
    num_total_params: int | None = None  # of the base, adapter not counted
    base_bits_per_param: float | None = None  # of the whole base as it was stored, scales included, adapter not counted
    adapter_layers: list[dict[str, Any]] = field(default_factory=list)  # effective rank, alpha, scaling, rates
    adapter_bytes: int | None = None
    num_train_tokens: int | None = None  # padding not counted; of an image its patches and the class token
    num_train_examples: int | None = None  # with those that were dropped
    num_truncated: int | None = None  # of these, cut at max_length
    num_dropped: int | None = None  # of these, cut before their response began, so that nothing was left to learn
    tokens_per_second: float | None = None
    larger_batches: list[LargerBatch] = field(default_factory=list)  # that it was tried with, and ran out of memory
    cohort: list[int] = field(default_factory=list)  # trials that shared a base with it; itself alone: a solo run
    phases: dict[str, Phase] = field(default_factory=dict)  # the whole cohort's time and memory
    solo: Solo | None = None  # None for a method that has the base for itself: its phases are its own
    losses: list[TrainPoint] = field(default_factory=list)
    heldout_losses: list[HeldoutPoint] = field(default_factory=list)
    heldout_loss_nats_per_token: float | None = None  # an image is one target, and counts as one token here
    scores: dict[str, dict[str, Score]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    version: int = RECORD_VERSION

    @property
    def trained_among_others(self) -> bool:
        """True where `phases` are a cohort's time and memory, and not the trial's own."""
        return len(self.cohort) > 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"status": self.status.value}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialRecord":
        """The record that `to_dict` gave, of an earlier version too: what it did not know has its default.

        Raises `ValueError` naming what is missing, unknown or malformed.
        """
        if not isinstance(values, dict):
            raise ValueError(f"a record is an object with fields, got {type(values).__name__}")
        names = {one.name for one in fields(cls)}
        unset = {one.name: field_default(one) for one in fields(cls)}
        required = {name for name, value in unset.items() if value is MISSING}
        odd = (set(values) - names) | (required - set(values))
        if odd:
            raise ValueError(f"record fields do not match: {', '.join(sorted(odd))}")
        try:
            values = {name: value for name, value in unset.items() if value is not MISSING} | values
            parts: dict[str, Any] = {
                "status": Status(values["status"]),
                "larger_batches": [LargerBatch(**one) for one in values["larger_batches"]],
                "phases": {name: Phase(**phase) for name, phase in values["phases"].items()},
                "solo": None if values["solo"] is None else Solo(**values["solo"]),
                "losses": [TrainPoint(**point) for point in values["losses"]],
                "heldout_losses": [HeldoutPoint(**point) for point in values["heldout_losses"]],
                "scores": {
                    task: {metric: Score(**score) for metric, score in metrics.items()}
                    for task, metrics in values["scores"].items()
                },
            }
        except (TypeError, AttributeError) as error:
            raise ValueError(f"record is malformed: {error}") from error
        return cls(**(values | parts))


def field_default(one: "Field[Any]") -> Any:
    """What a dataclass's field is where nothing is given; `MISSING` where something must be."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def metric_value(record: TrialRecord, name: str) -> float | None:
    """The number that `name` means in `record`, or None where it has none."""
    if name.startswith("scores."):
        _, task, metric = name.split(".")
        score = record.scores.get(task, {}).get(metric)
        return None if score is None else score.value
    if name.startswith("solo."):
        return None if record.solo is None else getattr(record.solo, name.removeprefix("solo."))
    if name.startswith("phases."):
        _, phase, part = name.split(".")
        return getattr(record.phases[phase], part) if phase in record.phases else None
    value: float | None = getattr(record, name)
    return value


@dataclass
class StudyFacts:
    """What a report needs to know of the study beside its records."""

    name: str
    question: str | None
    command: str  # what a user types to run it again
    objectives: dict[str, str]  # metric -> direction; the first one names the best
    seeds: list[int]
    space: dict[str, dict[str, Any]]  # varied key -> its axis: choices, or low and high
    num_planned: int | None  # trials, seeds included
    config: dict[str, Any]  # the experiment before any trial's own values

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
