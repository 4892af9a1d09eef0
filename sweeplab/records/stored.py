"""Dataclasses as files and messages have them, checked by pydantic as they are read."""

import json
from typing import Any, Final, TypeGuard, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

_STORED: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_ODD_FIELDS: Final = ("missing", "missing_argument", "unexpected_keyword_argument", "extra_forbidden")
_MOST_NESTED: Final = 40  # levels of a value that may be anything
_T = TypeVar("_T")


def to_plain(value: Any) -> Any:
    """What JSON takes, of dataclasses in lists and dictionaries."""
    return to_jsonable_python(value)


_READERS: Final[dict[Any, TypeAdapter[Any]]] = {}


def _reader_of(kind: Any) -> TypeAdapter[Any]:
    """A list, since pydantic takes the strictness of a dataclass from what is around it."""
    if kind not in _READERS:
        _READERS[kind] = TypeAdapter(list[kind], config=_STORED)
    return _READERS[kind]


def from_plain(kind: type[_T], values: Any, name: str) -> _T:
    """The dataclass `kind` from what JSON made of it, the dataclasses within it too; a field that is absent has its
    default. Raises `ValueError` naming the field that is missing, unknown or of another type; `name`: of the whole.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{name} is an object with fields, got {type(values).__name__}")
    _refuse_deep(values)
    try:
        (whole,) = _reader_of(kind).validate_json(json.dumps([values], allow_nan=False))
    except ValidationError as error:
        raise ValueError(_describe(error.errors(include_url=False), name)) from error
    read: _T = whole
    return read


def _describe(errors: list[ErrorDetails], name: str) -> str:
    odd = sorted({".".join(map(str, one["loc"][1:])) for one in errors if one["type"] in _ODD_FIELDS})
    if odd:
        return f"fields of {name} do not match: {', '.join(odd)}"
    first = errors[0]
    where = ".".join(map(str, first["loc"][1:]))
    return f"{where} is malformed: {first['msg']}, got {str(first['input'])[:60]!r}"


def _refuse_deep(value: Any, level: int = 0) -> None:
    """Raises `ValueError` for a value nested so deep that no reader of it would come to its end."""
    if level > _MOST_NESTED:
        raise ValueError(f"it is nested deeper than {_MOST_NESTED} levels")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _refuse_deep(inner, level + 1)


def is_number(value: object) -> TypeGuard[int | float]:
    """True for an integer or a float; Python counts booleans among the integers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def value_at(values: dict[str, Any], key: str) -> Any:
    """The single value that a dotted key has; None for a group, and for a key that is not there."""
    value: Any = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if isinstance(value, dict) else value
