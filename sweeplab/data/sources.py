"""Where examples come from: the small world, a JSON or JSONL file, several of them mixed, or a data set of the hub."""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sweeplab.builtin import world
from sweeplab.config.data import DataConfig
from sweeplab.data.mixture import make_mixture
from sweeplab.data.prompts import Example
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


def _make_chat_example(row: Any, where: str, field: str) -> Example:
    messages = row.get(field)
    well_formed = isinstance(messages, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in messages
    )
    if not well_formed or len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise ConfigError(
            f"{where}: field '{field}' must be a list of messages with role and content that ends with the "
            "assistant's; name another field with data.messages_field"
        )
    return Example(
        [{part: _check_encodable(message[part], where, field) for part in ("role", "content")} for message in messages]
    )


def _read_text_field(row: dict[str, Any], where: str, key: str, name: str) -> str:
    if name not in row:
        fields = ", ".join(str(field) for field in row) or "none"
        raise ConfigError(f"{where}: field '{name}' is missing (fields: {fields}); set data.{key} to the right name")
    if not isinstance(row[name], str):
        raise ConfigError(f"{where}: field '{name}' must be text, got {type(row[name]).__name__}; mend the record")
    return _check_encodable(row[name], where, name)


def make_example(row: Any, where: str, config: DataConfig) -> Example:
    """An `Example` from one record. Raises `ConfigError` naming the place, the field and the remedy."""
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: a record must be an object with fields, got {type(row).__name__}; mend the record")
    if config.messages_field is not None:
        return _make_chat_example(row, where, config.messages_field)
    instruction = _read_text_field(row, where, "instruction_field", config.instruction_field)
    output = _read_text_field(row, where, "output_field", config.output_field)
    given = row.get(config.input_field) if config.input_field is not None else None
    if given is not None and not isinstance(given, str):
        raise ConfigError(f"{where}: field '{config.input_field}' must be text, got {type(given).__name__}; mend it")
    _check_encodable(given or "", where, str(config.input_field))
    if not output:
        raise ConfigError(f"{where}: field '{config.output_field}' is empty, nothing to learn; remove the record")
    return Example([{"role": "user", "content": instruction}, {"role": "assistant", "content": output}], given or "")


def _read_examples(path: str, config: DataConfig) -> list[Example]:
    return [make_example(row, f"{path}, {where}", config) for where, row in _read_numbered_rows(expand_home(path))]


def _download_examples(config: DataConfig) -> list[Example]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        rows = load_dataset(config.name, config.subset, split=config.split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:  # RuntimeError: a script, which is not run
        cause = describe_error(error)
        raise ConfigError(
            f"data.name={config.name} cannot be loaded from the hub: {cause}; check the name and the network"
        ) from error
    return [make_example(row, f"{config.name}, record {place}", config) for place, row in enumerate(rows, 1)]


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
        digest.update(json.dumps(part, ensure_ascii=False).encode())
    return digest.hexdigest()


def _load_whole_splits(config: DataConfig) -> tuple[list[Example], list[Example]]:
    """All that there is to learn from, and to measure on. Raises `ConfigError`."""
    if config.source == "world":
        rows = (world.make_target_examples(str(config.target)), world.make_skill_items(str(config.target)))
        train, heldout = ([make_example(row, config.name, config) for row in part] for part in rows)
        return train, heldout
    if config.source == "mixture":
        parts = [
            split_examples(_read_examples(part.path, config), config.heldout_fraction, f"data.parts: {part.path}")
            for part in config.parts
        ]
        return make_mixture([train for train, _ in parts], config), [one for _, heldout in parts for one in heldout]
    examples = _download_examples(config) if config.source == "hub" else _read_examples(str(config.path), config)
    if config.heldout_path is not None:
        return examples, _read_examples(config.heldout_path, config)
    where = f"data.name={config.name}" if config.source == "hub" else f"data.path={config.path}"
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
    train, heldout = _load_whole_splits(config)
    train = limit_examples(train, config)
    return Splits(train, heldout, fingerprint_examples((train, heldout)))
