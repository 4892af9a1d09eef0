"""Records as examples: what is wrong with one is refused, and one that teaches nothing is skipped, and counted."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from sweeplab.config.data import RecordData, RecordFields
from sweeplab.data.conversations import make_chat_example
from sweeplab.data.fields import choose_fields
from sweeplab.data.files import MOST_LETTERS
from sweeplab.data.prompts import Example, NothingLearnedError, name_records
from sweeplab.runtime.errors import ConfigError

_MOST_NAMED: Final = 3  # records that a sentence names with the reason


class Records(NamedTuple):
    """The examples of one file or data set, and what is to be said of it."""

    examples: list[Example]
    num_skipped: int = 0
    reading: str | None = None  # which fields were read, where nobody had named them
    skipping: str | None = None  # which records were skipped, and why


class _Skipped(NamedTuple):
    name: str  # such as `line 3`
    reason: str


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
    if num_letters > MOST_LETTERS:
        raise ConfigError(
            f"{where}: a record must have at most {MOST_LETTERS:,} characters, got {num_letters:,}; split it"
        )


def _check_encodable(text: str, where: str, field: str) -> str:
    """Returns `text`. Raises `ConfigError` where it has half of a surrogate pair, which JSON allows and UTF-8 not."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{where}: field '{field}' has half of a surrogate pair; correct the record") from error
    return text


def _read_text_field(row: dict[str, Any], where: str, name: str) -> str:
    if row.get(name) is None:
        raise NothingLearnedError(f"field '{name}' is missing")
    value = _write_whole_number(row[name])
    if not isinstance(value, str):
        remedy = "put it in quotes, as it is to be read" if isinstance(value, float) else "correct the record"
        raise ConfigError(f"{where}: field '{name}' must be text, got {type(value).__name__}; {remedy}")
    return _check_encodable(value, where, name)


def _write_whole_number(value: Any) -> Any:
    """A whole number as text, which has one way to be written, as in a CSV file; anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_example(row: Any, where: str, fields: RecordFields, targets: str = "last") -> Example:
    """The example of one record; `targets` are the answers of a conversation that are learned, all or last.

    Raises `ConfigError` that names where it stands, the field and the remedy, and `NothingLearnedError` where there is
    no answer.
    """
    if not isinstance(row, dict):
        kind = type(row).__name__
        raise ConfigError(f"{where}: a record must be an object with fields, got {kind}; correct the record")
    if fields.messages is not None:
        _check_encodable(json.dumps(row, ensure_ascii=False, default=str), where, fields.messages)
        return make_chat_example(row, where, fields.messages, targets)
    assert fields.instruction is not None
    assert fields.output is not None
    instruction = _read_text_field(row, where, fields.instruction)
    output = _read_text_field(row, where, fields.output)
    input_text = _write_whole_number(row.get(fields.input)) if fields.input is not None else None
    if input_text is not None and not isinstance(input_text, str):
        raise ConfigError(f"{where}: field '{fields.input}' must be text, got {type(input_text).__name__}; correct it")
    _check_encodable(input_text or "", where, str(fields.input))
    if not output.strip():
        raise NothingLearnedError(f"field '{fields.output}' is empty")
    return Example(
        [{"role": "user", "content": instruction}, {"role": "assistant", "content": output}], input_text or ""
    )


def read_records(rows: Iterable[tuple[str, Any]], source: str, config: RecordData) -> Records:
    """Examples with the names of their records, without those that teach nothing.

    Raises `ConfigError` for the first fault and all that have it, and where the share of those that teach nothing is
    more than `data.max_skipped`.
    """
    numbered = list(rows)
    reading = choose_fields([row for _, row in numbered if isinstance(row, dict)], config.record_fields, source)
    examples: list[Example] = []
    skipped: list[_Skipped] = []
    faults: dict[str, list[str]] = {}
    for name, row in numbered:
        where = f"{source}, {name}"
        try:
            _refuse_long_record(row, where)
            example = read_example(row, where, reading.fields, config.targets)
        except NothingLearnedError as error:
            skipped.append(_Skipped(name, str(error)))
            continue
        except ConfigError as error:
            faults.setdefault(str(error).removeprefix(where), []).append(name)
            continue
        example.where = where
        examples.append(example)
    for fault, names in faults.items():
        also = f" ({len(names):,} records: {name_records(names)})" if len(names) > 1 else ""
        raise ConfigError(f"{source}, {names[0]}{fault}{also}")
    skipping = _describe_skipped(skipped, len(numbered), source, config.max_skipped)
    return Records(examples, len(skipped), reading.note, skipping)


def _describe_skipped(skipped: Sequence[_Skipped], num_records: int, source: str, max_skipped: float) -> str | None:
    """How many records teach nothing, and the first of them; None for none. Raises `ConfigError` for too many."""
    if not skipped:
        return None
    counted = f"{len(skipped):,} of {num_records:,} records of {source}"
    named = "; ".join(f"{one.name}: {one.reason}" for one in skipped[:_MOST_NAMED])
    if len(skipped) > _MOST_NAMED:
        named += f" and {len(skipped) - _MOST_NAMED:,} more"
    share = len(skipped) / num_records
    if share > max_skipped:
        raise ConfigError(
            f"data.max_skipped={max_skipped:g} is the share of records that may teach nothing, got {share:.2g}: "
            f"{counted} ({named}); correct them, or raise data.max_skipped"
        )
    return f"skipped {counted}, which teach nothing ({named})"
