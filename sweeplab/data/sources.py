"""Where examples come from: the small world, a JSON or JSONL file, several of them mixed, or a data set of the hub."""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sweeplab.builtin import world
from sweeplab.config.data import (
    DataConfig,
    HubData,
    JsonData,
    MixtureData,
    RecordData,
    RecordFields,
    TextData,
    WorldData,
)
from sweeplab.data.conversations import make_chat_example
from sweeplab.data.mixture import make_mixture
from sweeplab.data.prompts import Example, name_places
from sweeplab.runtime.errors import ConfigError, describe_error
from sweeplab.runtime.paths import expand_home

_SPLIT_SEED: Final = 0  # one split for every trial, whatever its seed

_Item = TypeVar("_Item")  # an example of any kind


class Splits(NamedTuple):
    """Disjoint examples to learn from and to measure on, and a fingerprint of both."""

    train: list[Example]
    heldout: list[Example]
    fingerprint: str


def _read_numbered_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a JSON array or of JSON lines, each with its place (`record 3` or `line 3`), counted from 1."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {error}; check data.path") from error
    if not text.strip():
        raise ConfigError(f"{path} is empty; give at least two records")
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is no complete JSON: {error}; mend the file") from error
        yield from ((f"record {place}", row) for place, row in enumerate(rows, 1))
        return
    for place, line in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028 inside a text
        if line.strip():
            try:
                yield f"line {place}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{path}, line {place}: no complete JSON: {error}; mend the line") from error


def _check_encodable(text: str, where: str, field: str) -> str:
    """`text`, unless it holds half of a surrogate pair, as JSON may spell it. Raises `ConfigError`."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where}: field '{field}' holds half of a surrogate pair; mend the record") from error
    return text


def _read_text_field(row: dict[str, Any], where: str, key: str, name: str) -> str:
    if name not in row:
        fields = ", ".join(str(field) for field in row) or "none"
        raise ConfigError(f"{where}: field '{name}' is missing (fields: {fields}); set data.{key} to the right name")
    if not isinstance(row[name], str):
        raise ConfigError(f"{where}: field '{name}' must be text, got {type(row[name]).__name__}; mend the record")
    return _check_encodable(row[name], where, name)


def make_example(row: Any, where: str, fields: RecordFields) -> Example:
    """An `Example` from one record. Raises `ConfigError` naming the place, the field and the remedy."""
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: a record must be an object with fields, got {type(row).__name__}; mend the record")
    if fields.messages is not None:
        _check_encodable(json.dumps(row, ensure_ascii=False), where, fields.messages)
        return make_chat_example(row, where, fields.messages)
    instruction = _read_text_field(row, where, "instruction_field", fields.instruction)
    output = _read_text_field(row, where, "output_field", fields.output)
    given = row.get(fields.input) if fields.input is not None else None
    if given is not None and not isinstance(given, str):
        raise ConfigError(f"{where}: field '{fields.input}' must be text, got {type(given).__name__}; mend it")
    _check_encodable(given or "", where, str(fields.input))
    if not output:
        raise ConfigError(f"{where}: field '{fields.output}' is empty, nothing to learn; remove the record")
    return Example([{"role": "user", "content": instruction}, {"role": "assistant", "content": output}], given or "")


def _make_examples(rows: Iterable[tuple[str, Any]], source: str, fields: RecordFields) -> list[Example]:
    """Examples that know their place. Raises `ConfigError` for the first wrong record, with others of its fault."""
    examples: list[Example] = []
    faults: dict[str, list[str]] = {}
    for place, row in rows:
        where = f"{source}, {place}"
        try:
            example = make_example(row, where, fields)
        except ConfigError as error:
            faults.setdefault(str(error).removeprefix(where), []).append(place)
            continue
        example.where = where
        examples.append(example)
    for fault, places in faults.items():
        also = f" ({len(places):,} records: {name_places(places)})" if len(places) > 1 else ""
        raise ConfigError(f"{source}, {places[0]}{fault}{also}")
    return examples


def _read_examples(path: str, config: RecordData) -> list[Example]:
    return _make_examples(_read_numbered_rows(expand_home(path)), path, config.record_fields)


def _download_examples(config: HubData) -> list[Example]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(config.name, config.subset, split=config.split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:  # RuntimeError: a script, which is not run
        cause = describe_error(error)
        raise ConfigError(
            f"data.name={config.name} cannot be loaded from the hub: {cause}; check the name and the network"
        ) from error
    numbered = ((f"record {place}", row) for place, row in enumerate(rows, 1))
    return _make_examples(numbered, config.name, config.record_fields)


def split_examples(examples: list[Example], heldout_fraction: float, where: str) -> tuple[list[Example], list[Example]]:
    """Train and held-out parts of a seeded shuffle, never empty. Raises `ConfigError` for less than two in `where`."""
    if len(examples) < 2:
        raise ConfigError(f"{where} must hold at least two examples, got {len(examples)}; add records")
    shuffled = random.Random(_SPLIT_SEED).sample(examples, len(examples))
    num_heldout = min(max(1, round(heldout_fraction * len(examples))), len(examples) - 1)
    return shuffled[num_heldout:], shuffled[:num_heldout]


def fingerprint_examples(parts: Iterable[Sequence[Any]]) -> str:
    """SHA-256 of the examples in order, so that a record says on exactly what it was trained and measured."""
    digest = hashlib.sha256()
    for part in parts:
        content = [one[:2] if isinstance(one, Example) and not one.tools else one for one in part]
        digest.update(json.dumps(content, ensure_ascii=False).encode())
    return digest.hexdigest()


def _load_whole_splits(config: TextData) -> tuple[list[Example], list[Example]]:
    """All that there is to learn from, and to measure on. Raises `ConfigError`."""
    if isinstance(config, WorldData):
        rows = (world.make_target_examples(config.target), world.make_skill_items(config.target))
        train, heldout = ([make_example(row, config.name, config.record_fields) for row in part] for part in rows)
        return train, heldout
    if isinstance(config, MixtureData):
        parts = [
            split_examples(_read_examples(part.path, config), config.heldout_fraction, f"data.parts: {part.path}")
            for part in config.parts
        ]
        return make_mixture([train for train, _ in parts], config), [one for _, heldout in parts for one in heldout]
    assert isinstance(config, HubData | JsonData)
    examples = _download_examples(config) if isinstance(config, HubData) else _read_examples(config.path, config)
    if config.heldout_path is not None:
        return examples, _read_examples(config.heldout_path, config)
    where = f"data.name={config.name}" if isinstance(config, HubData) else f"data.path={config.path}"
    return split_examples(examples, config.heldout_fraction, where)


def _take_fraction(train: list[_Item], config: DataConfig) -> list[_Item]:
    """A seeded choice of round(fraction * N) examples, at least one; a smaller one is a part of every larger one.

    A mixture's own order is kept: its beginnings have its proportions.
    """
    assert config.fraction is not None
    order = train if config.source == "mixture" else random.Random(_SPLIT_SEED).sample(train, len(train))
    return order[: max(1, round(config.fraction * len(train)))]


def limit_examples(train: list[_Item], config: DataConfig) -> list[_Item]:
    """The training examples that `num_examples` or `fraction` leaves; all without them. Raises `ConfigError`."""
    if config.num_examples is not None:
        if config.num_examples > len(train):
            raise ConfigError(
                f"data.num_examples must be at most {len(train)}, which is how many there are to train on, got "
                f"{config.num_examples}; lower it, or leave it null for all"
            )
        train = train[: config.num_examples]
    return train if config.fraction is None else _take_fraction(train, config)


def count_learned(splits: Splits) -> int:
    """Held-out examples that stand among those to train on too, prompt and response alike."""
    known = set(map(json.dumps, splits.train))
    return sum(json.dumps(one) in known for one in splits.heldout)


def load_splits(config: DataConfig) -> Splits:
    """The examples that `config` names. Raises `ConfigError` for anything wrong with them.

    `num_examples` takes the first ones, in the order of a file with a held-out file beside it, else of the seeded
    split; `fraction` is a seeded choice.
    """
    assert isinstance(config, TextData)
    train, heldout = _load_whole_splits(config)
    train = limit_examples(train, config)
    return Splits(train, heldout, fingerprint_examples((train, heldout)))
