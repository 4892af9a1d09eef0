"""Which fields of a record are read: those that the configuration names, else those of a known format."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from sweeplab.config.data import RecordFields
from sweeplab.runtime.errors import ConfigError

_MOST_NAMED: Final = 12  # fields that a refusal lists


class _Format(NamedTuple):
    name: str
    fields: RecordFields


_FORMATS: Final = (
    _Format("Alpaca", RecordFields("instruction", "output", "input")),
    _Format("Dolly", RecordFields("instruction", "response", "context")),
    _Format("prompt and completion", RecordFields("prompt", "completion")),
    _Format("question and answer", RecordFields("question", "answer", "context")),
    _Format("OpenAI's messages", RecordFields(messages="messages")),
    _Format("ShareGPT", RecordFields(messages="conversations")),
)


class Reading(NamedTuple):
    """The fields that are read, and a sentence that says so where nobody had named them."""

    fields: RecordFields
    note: str | None = None


def choose_fields(rows: Sequence[dict[str, Any]], given: RecordFields, source: str) -> Reading:
    """The fields of `given`; what it does not name is known by the names that most of the `rows` have.

    Raises `ConfigError` where no format fits or several do, with the fields that there are and what to type.
    """
    if not rows:
        return Reading(given)
    if len(rows) == 1 and not any(_list_fitting(given, list(rows[0]))):
        _refuse_wrapped_records(rows[0], given, source)
    counts = Counter(name for row in rows for name, value in row.items() if value is not None)
    _refuse_missing(given, counts, source)
    if given.messages is not None or (given.instruction is not None and given.output is not None):
        return Reading(given)
    usual = [name for name, count in counts.items() if 2 * count >= len(rows)]
    found = list(_list_fitting(given, usual))
    if len(found) == 1:
        read = [
            name for name in (*_name_fields(found[0].fields), *_list_beside(found[0].fields, rows)) if name in usual
        ]
        others = [name for name in usual if name not in read]
        rest = f"; not read: {_list_names(others)}" if others else ""
        return Reading(found[0].fields, f"read {source} as {found[0].name}: {', '.join(read)}{rest}")
    names = _list_names(list(counts))
    if found:
        ways = " or ".join(_spell(one.fields) for one in found)
        raise ConfigError(f"{source} can be read in several ways (fields: {names}); write {ways}")
    guess = _guess_fields(usual) if len(usual) > 1 else RecordFields("NAME", "NAME")
    raise ConfigError(
        f"{source} has no fields that are known by themselves (fields: {names}); say which has the question and which "
        f"the answer, such as {_spell(guess)}, or which the chat messages: data.messages_field=NAME"
    )


def _list_fitting(given: RecordFields, usual: Sequence[str]) -> Iterator[_Format]:
    """The formats whose fields there are, with the names that are given in the place of their own."""
    seen = set()
    for name, fields in _FORMATS:
        if fields.messages is not None:
            fits, chosen = given == RecordFields() and fields.messages in usual, fields
        else:
            chosen = fields._replace(**{key: value for key, value in given._asdict().items() if value is not None})
            fits = chosen.instruction in usual and chosen.output in usual
        key = (chosen.instruction, chosen.output, chosen.messages)
        if fits and key not in seen:
            seen.add(key)
            yield _Format(name if chosen == fields else "question and answer", chosen)


def _guess_fields(usual: Sequence[str]) -> RecordFields:
    """Two of the fields to begin with: by a name that is known in its place, else the first ones."""
    outputs = [name for name in usual if name in {one.fields.output for one in _FORMATS}]
    instructions = [name for name in usual if name in {one.fields.instruction for one in _FORMATS}]
    instruction = next(name for name in (*instructions, *usual) if name not in outputs[:1])
    return RecordFields(instruction, next(name for name in (*outputs, *usual) if name != instruction))


def _refuse_wrapped_records(row: dict[str, Any], given: RecordFields, source: str) -> None:
    """Raises `ConfigError` for a file that is one object with the records in one of its fields."""
    for name, value in row.items():
        if name != given.messages and isinstance(value, list) and any(isinstance(one, dict) for one in value):
            raise ConfigError(
                f"{source} is one object, with {len(value):,} records in its field '{name}'; a file has records alone: "
                "write that list, or each of its records on a line of its own"
            )


def _refuse_missing(given: RecordFields, counts: Counter[str], source: str) -> None:
    """Raises `ConfigError` for a named field that no record has; a record may lack the input."""
    for part in ("instruction", "output", "messages"):
        name = getattr(given, part)
        if name is not None and name not in counts:
            raise ConfigError(
                f"data.{part}_field={name} is in no record of {source} (fields: {_list_names(list(counts))}); write "
                "the right name, or leave it null"
            )


def _name_fields(fields: RecordFields) -> list[str]:
    """In the order in which a model reads them."""
    order = (fields.instruction, fields.input, fields.output, fields.messages)
    return [name for name in order if name is not None]


def _list_beside(fields: RecordFields, rows: Sequence[dict[str, Any]]) -> list[str]:
    """What is read beside chat messages: the tools, and ShareGPT's system message."""
    if fields.messages is None:
        return []
    turns = (row.get(fields.messages) for row in rows)
    is_sharegpt = any(isinstance(one, list) and one and isinstance(one[0], dict) and "from" in one[0] for one in turns)
    return ["system", "tools"] if is_sharegpt else ["tools"]


def _spell(fields: RecordFields) -> str:
    """What to type for them."""
    named = {"instruction": fields.instruction, "output": fields.output, "messages": fields.messages}
    return " ".join(f"data.{part}_field={name}" for part, name in named.items() if name is not None)


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(str, names[:_MOST_NAMED])) + more if names else "none"
