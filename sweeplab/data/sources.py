"""Loads examples: from the embedded world, a file of records, a mixture of files, or a data set of the hub."""

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from sweeplab.builtin import world
from sweeplab.config.data import DataConfig, HubData, JsonData, MixtureData, RecordData, TextData, WorldData
from sweeplab.data.files import read_rows
from sweeplab.data.mixture import mix_parts
from sweeplab.data.prompts import Example
from sweeplab.data.records import Records, read_example, read_records
from sweeplab.runtime.errors import ConfigError, describe_error
from sweeplab.runtime.paths import expand_home

_SPLIT_SEED: Final = 0  # one split for every trial, whatever its seed

_Item = TypeVar("_Item")  # an example of any kind


class _Splits(NamedTuple):
    """Disjoint examples for training and for measuring, and a fingerprint of both."""

    train: list[Example]
    heldout: list[Example]
    fingerprint: str
    num_skipped: int | None = None  # records of files that teach nothing; None: there is no file
    skipping: tuple[str, ...] = ()  # of each file, which those are
    reading: tuple[str, ...] = ()  # of each file whose fields nobody had named, which were read


class _Whole(NamedTuple):
    """All examples, before `data.num_examples` or `data.fraction`."""

    train: list[Example]
    heldout: list[Example]


def _read_file(path: str, config: RecordData) -> Records:
    return read_records(read_rows(expand_home(path)), path, config)


def _download_records(config: HubData) -> Records:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(config.name, config.subset, split=config.split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:  # RuntimeError: a data set with a script
        cause = describe_error(error)
        raise ConfigError(
            f"data.name={config.name} cannot be loaded from the hub: {cause}; check the name and the network"
        ) from error
    numbered = ((f"record {number}", row) for number, row in enumerate(rows, 1))
    return read_records(numbered, config.name, config)


def _split_examples(examples: list[Example], config: RecordData, where: str) -> tuple[list[Example], list[Example]]:
    """Training and held-out parts of a seeded shuffle, both with at least one example; of fewer held-out ones the same
    come first.

    `where` names the source in the `ConfigError` that is raised for less than two examples.
    """
    if len(examples) < 2:
        raise ConfigError(f"{where} must hold at least two examples, got {len(examples)}; add records")
    shuffled = random.Random(_SPLIT_SEED).sample(examples, len(examples))
    num_heldout = min(max(1, round(config.heldout_fraction * len(examples))), len(examples) - 1)
    if config.num_heldout is not None:
        num_heldout = min(num_heldout, config.num_heldout)
    return shuffled[num_heldout:], shuffled[:num_heldout]


def fingerprint_examples(parts: Iterable[Sequence[Any]]) -> str:
    """SHA-256 of the examples in their order, which identifies the data of a record exactly."""
    digest = hashlib.sha256()
    for part in parts:
        content = [one[:2] if isinstance(one, Example) and not one.tools else one for one in part]
        digest.update(json.dumps(content, ensure_ascii=False).encode())
    return digest.hexdigest()


def _split_parts(config: MixtureData) -> tuple[_Whole, list[Records]]:
    """The mixture of the training parts of all files, and all of their held-out ones."""
    files = [_read_file(part.path, config) for part in config.parts]
    parts = [
        _split_examples(records.examples, config, f"data.parts: {part.path}")
        for part, records in zip(config.parts, files, strict=True)
    ]
    return _Whole(mix_parts([train for train, _ in parts], config), [one for _, held in parts for one in held]), files


def _load_whole_splits(config: TextData) -> tuple[_Whole, list[Records]]:
    """All examples for training and all held-out ones, and the files that they are of. Raises `ConfigError`."""
    if isinstance(config, WorldData):
        rows = (world.make_target_examples(config.target), world.make_skill_items(config.target))
        return _Whole(*([read_example(row, config.name, config.record_fields) for row in part] for part in rows)), []
    if isinstance(config, MixtureData):
        return _split_parts(config)
    assert isinstance(config, HubData | JsonData)
    records = _download_records(config) if isinstance(config, HubData) else _read_file(config.path, config)
    if config.heldout_path is not None:
        heldout = _read_file(config.heldout_path, config)
        return _Whole(records.examples, heldout.examples), [records, heldout]
    where = f"data.name={config.name}" if isinstance(config, HubData) else f"data.path={config.path}"
    return _Whole(*_split_examples(records.examples, config, where)), [records]


def _take_fraction(train: list[_Item], config: DataConfig) -> list[_Item]:
    """A seeded choice of round(fraction * N) examples, at least one; a smaller choice is a part of every larger one.

    Of a mixture the first ones are taken, since they have its proportions.
    """
    assert config.fraction is not None
    order = train if config.source == "mixture" else random.Random(_SPLIT_SEED).sample(train, len(train))
    return order[: max(1, round(config.fraction * len(train)))]


def limit_examples(train: list[_Item], config: DataConfig) -> list[_Item]:
    """The training examples that `data.num_examples` or `data.fraction` selects; all without them. Raises
    `ConfigError` where there are not enough."""
    if config.num_examples is not None:
        if config.num_examples > len(train):
            raise ConfigError(
                f"data.num_examples must be at most {len(train)}, the number of training examples, got "
                f"{config.num_examples}; lower it, or leave it null for all"
            )
        train = train[: config.num_examples]
    return train if config.fraction is None else _take_fraction(train, config)


def count_learned(splits: _Splits) -> int | None:
    """The number of held-out examples that are also training examples, with the same prompt and response.

    None where there is no file: the embedded world holds out questions on purpose.
    """
    if splits.num_skipped is None:
        return None
    known = set(map(json.dumps, splits.train))
    return sum(json.dumps(one) in known for one in splits.heldout)


def warn_of_learned(splits: _Splits, num_learned: int | None) -> tuple[str, ...]:
    """The sentence for held-out examples that are trained on; nothing where there is none."""
    if not num_learned:
        return ()
    counted = f"{num_learned:,} of {len(splits.heldout):,} held-out examples stand in training too"
    return (f"{counted}, prompt and response alike: their loss says how well they were learned by heart",)


def load_splits(config: DataConfig) -> _Splits:
    """The examples that `config` names. Raises `ConfigError` where they cannot be read or are not valid.

    `data.num_examples` selects the first ones: of the file where there is a held-out file, too, else of the seeded
    split. `data.fraction` is a seeded choice.
    """
    assert isinstance(config, TextData)
    (train, heldout), files = _load_whole_splits(config)
    train = limit_examples(train, config)
    return _Splits(
        train,
        heldout,
        fingerprint_examples((train, heldout)),
        num_skipped=sum(records.num_skipped for records in files) if files else None,
        skipping=tuple(records.skipping for records in files if records.skipping is not None),
        reading=tuple(records.reading for records in files if records.reading is not None),
    )
