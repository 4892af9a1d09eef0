"""Loads examples: from the embedded world, a JSON or JSONL file, a mixture of files, or a data set of the hub."""

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
from sweeplab.data.mixture import mix_parts
from sweeplab.data.prompts import Example, name_records
from sweeplab.runtime.errors import ConfigError, describe_error
from sweeplab.runtime.paths import expand_home

_MOST_LETTERS: Final = 4_000_000  # of a record: about a million tokens, more than models read
_SPLIT_SEED: Final = 0  # one split for every trial, whatever its seed

_Item = TypeVar("_Item")  # an example of any kind


class _Splits(NamedTuple):
    """Disjoint examples for training and for measuring, and a fingerprint of both."""

    train: list[Example]
    heldout: list[Example]
    fingerprint: str


def _read_numbered_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a JSON array or of JSON lines, each with where it stands (`record 3` or `line 3`, counted from 1)."""
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
            raise ConfigError(f"{path} is not valid JSON: {error}; correct the file") from error
        yield from ((f"record {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would also split at U+2028 inside a text
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{path}, line {number}: not valid JSON: {error}; correct the line") from error


def count_letters(value: Any) -> int:
    """Characters of all texts in a record, however deep."""
    count, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            count += len(part)
        elif isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, dict):
            waiting += part.values()
    return count


def _refuse_long_record(row: Any, where: str) -> None:
    """Raises `ConfigError` for a text that would keep a tokenizer busy for minutes, or end it for lack of memory."""
    num_letters = count_letters(row)
    if num_letters > _MOST_LETTERS:
        raise ConfigError(
            f"{where}: a record must have at most {_MOST_LETTERS:,} characters, got {num_letters:,}; split it"
        )


def _check_encodable(text: str, where: str, field: str) -> str:
    """Returns `text`. Raises `ConfigError` where it has half of a surrogate pair, which JSON allows and UTF-8 not."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where}: field '{field}' has half of a surrogate pair; correct the record") from error
    return text


def _read_text_field(row: dict[str, Any], where: str, key: str, name: str) -> str:
    if name not in row:
        fields = ", ".join(str(field) for field in row) or "none"
        raise ConfigError(f"{where}: field '{name}' is missing (fields: {fields}); set data.{key} to the right name")
    if not isinstance(row[name], str):
        raise ConfigError(f"{where}: field '{name}' must be text, got {type(row[name]).__name__}; correct the record")
    return _check_encodable(row[name], where, name)


def _read_example(row: Any, where: str, fields: RecordFields) -> Example:
    """The example of one record. Raises `ConfigError` that names where it stands, the field and the remedy."""
    if not isinstance(row, dict):
        kind = type(row).__name__
        raise ConfigError(f"{where}: a record must be an object with fields, got {kind}; correct the record")
    if fields.messages is not None:
        _check_encodable(json.dumps(row, ensure_ascii=False), where, fields.messages)
        return make_chat_example(row, where, fields.messages)
    instruction = _read_text_field(row, where, "instruction_field", fields.instruction)
    output = _read_text_field(row, where, "output_field", fields.output)
    input_text = row.get(fields.input) if fields.input is not None else None
    if input_text is not None and not isinstance(input_text, str):
        raise ConfigError(f"{where}: field '{fields.input}' must be text, got {type(input_text).__name__}; correct it")
    _check_encodable(input_text or "", where, str(fields.input))
    if not output:
        raise ConfigError(f"{where}: field '{fields.output}' is empty: nothing to learn; remove the record")
    return Example(
        [{"role": "user", "content": instruction}, {"role": "assistant", "content": output}], input_text or ""
    )


def _make_examples(rows: Iterable[tuple[str, Any]], source: str, fields: RecordFields) -> list[Example]:
    """Examples with the names of their records. Raises `ConfigError` for the first fault and all that have it."""
    examples: list[Example] = []
    faults: dict[str, list[str]] = {}
    for name, row in rows:
        where = f"{source}, {name}"
        try:
            _refuse_long_record(row, where)
            example = _read_example(row, where, fields)
        except ConfigError as error:
            faults.setdefault(str(error).removeprefix(where), []).append(name)
            continue
        example.where = where
        examples.append(example)
    for fault, names in faults.items():
        also = f" ({len(names):,} records: {name_records(names)})" if len(names) > 1 else ""
        raise ConfigError(f"{source}, {names[0]}{fault}{also}")
    return examples


def _read_examples(path: str, config: RecordData) -> list[Example]:
    return _make_examples(_read_numbered_rows(expand_home(path)), path, config.record_fields)


def _download_examples(config: HubData) -> list[Example]:
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
    return _make_examples(numbered, config.name, config.record_fields)


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


def _load_whole_splits(config: TextData) -> tuple[list[Example], list[Example]]:
    """All examples for training, and all held-out ones. Raises `ConfigError`."""
    if isinstance(config, WorldData):
        rows = (world.make_target_examples(config.target), world.make_skill_items(config.target))
        train, heldout = ([_read_example(row, config.name, config.record_fields) for row in part] for part in rows)
        return train, heldout
    if isinstance(config, MixtureData):
        parts = [
            _split_examples(_read_examples(part.path, config), config, f"data.parts: {part.path}")
            for part in config.parts
        ]
        return mix_parts([train for train, _ in parts], config), [one for _, heldout in parts for one in heldout]
    assert isinstance(config, HubData | JsonData)
    examples = _download_examples(config) if isinstance(config, HubData) else _read_examples(config.path, config)
    if config.heldout_path is not None:
        return examples, _read_examples(config.heldout_path, config)
    where = f"data.name={config.name}" if isinstance(config, HubData) else f"data.path={config.path}"
    return _split_examples(examples, config, where)


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


def count_leaked_examples(splits: _Splits) -> int:
    """The number of held-out examples that are also training examples, with the same prompt and response."""
    known = set(map(json.dumps, splits.train))
    return sum(json.dumps(one) in known for one in splits.heldout)


def load_splits(config: DataConfig) -> _Splits:
    """The examples that `config` names. Raises `ConfigError` where they cannot be read or are not valid.

    `data.num_examples` selects the first ones: of the file where there is a held-out file, too, else of the seeded
    split. `data.fraction` is a seeded choice.
    """
    assert isinstance(config, TextData)
    train, heldout = _load_whole_splits(config)
    train = limit_examples(train, config)
    return _Splits(train, heldout, fingerprint_examples((train, heldout)))
