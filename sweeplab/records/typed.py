"""Reads dataclasses from JSON values and checks every type, so that the rest of the code gets only valid values."""

import json
import math
import re
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final, NamedTuple, NoReturn, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

_MOST_DIGITS: Final = 25  # a whole number must have fewer characters
_HALF_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_MOST_NESTED: Final = 40  # most levels of a value of any type
_TYPE_NAMES: Final = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_T = TypeVar("_T")


def parse_strict_json(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError`, also for numbers and characters that cannot be written again."""

    def refuse(number: str) -> NoReturn:
        raise ValueError(f"{number[:20]} is no number that can be stored")

    def whole(number: str) -> int:
        return int(number) if len(number) < _MOST_DIGITS else refuse(number)

    def fraction(number: str) -> float:
        return value if math.isfinite(value := float(number)) else refuse(number)

    value = json.loads(text, parse_constant=refuse, parse_int=whole, parse_float=fraction)
    if _HALF_SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # raises for half of a surrogate pair
    return value


def _find_default(one: "Field[Any]") -> Any:
    """The default of a dataclass's field; `MISSING` where it has none."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def to_plain(value: Any) -> Any:
    """Dataclasses within lists and dictionaries as values for JSON; as `asdict`, but without deep copies."""
    if is_dataclass(value):
        return {name: to_plain(part) for name, part in vars(value).items()}
    if isinstance(value, dict):
        return {key: to_plain(part) for key, part in value.items()}
    return [to_plain(part) for part in value] if isinstance(value, list | tuple) else value


class _Layout(NamedTuple):
    """The fields of a dataclass with their types."""

    hints: dict[str, Any]
    required: frozenset[str]  # those without a default


@cache
def _read_layout(kind: type[Any]) -> _Layout:
    hints, own = get_type_hints(kind), fields(kind)
    return _Layout(
        {one.name: hints[one.name] for one in own},
        frozenset(one.name for one in own if _find_default(one) is MISSING),
    )


def from_plain(kind: type[_T], values: Any, name: str) -> _T:
    """The dataclass `kind` from JSON values, with the dataclasses within it; a missing field gets its default.

    Raises `ValueError` that names a missing or unknown field, or one of another type; `name` is that of the whole.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{name} is an object with fields, got {type(values).__name__}")
    hints, required = _read_layout(kind)  # type: ignore[arg-type]
    odd = (values.keys() - hints.keys()) | (required - values.keys())
    if odd:
        raise ValueError(f"fields of {name} do not match: {', '.join(sorted(odd))}")
    return kind(**{field: _check(hints[field], value, field) for field, value in values.items()})


def _check(hint: Any, value: Any, name: str) -> Any:
    """`value` converted to the type `hint`. Raises `ValueError` where it is of another type."""
    if hint in _TYPE_NAMES and _is_of_type(hint, value):
        return value
    kind = get_origin(hint) or hint
    if hint is Any:
        _refuse_deep(value, name)
        return value
    if kind in (Union, types.UnionType):
        (inner,) = (one for one in get_args(hint) if one is not type(None))
        return None if value is None else _check(inner, value, name)
    if kind is list and isinstance(value, list):
        return [_check(get_args(hint)[0], one, f"{name}.{index}") for index, one in enumerate(value)]
    if kind is dict and isinstance(value, dict):
        return {key: _check(get_args(hint)[1], one, f"{name}.{key}") for key, one in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return from_plain(kind, value, name)  # type: ignore[arg-type]
    if isinstance(kind, type) and issubclass(kind, StrEnum) and isinstance(value, str):
        return kind(value)
    what = _TYPE_NAMES.get(kind, "a list" if kind is list else "an object")
    raise ValueError(f"{name} is malformed: it must be {what}, got {str(value)[:60]!r}")


def _is_of_type(kind: type[Any], value: Any) -> bool:
    """True where a text, a boolean or a number is of the type `kind`; an integer is also a float."""
    if isinstance(value, bool) or kind in (bool, str):
        return isinstance(value, kind)
    return isinstance(value, (int, float) if kind is float else int)


def is_number(value: object) -> TypeGuard[int | float]:
    """True for an integer or a float, but not for a boolean, which Python counts among the integers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse_deep(value: Any, name: str, level: int = 0) -> None:
    """Raises `ValueError` for a value that is nested so deeply that recursive code would fail on it."""
    if level > _MOST_NESTED:
        raise ValueError(f"{name} is malformed: it is nested deeper than {_MOST_NESTED} levels")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _refuse_deep(inner, name, level + 1)


def value_at(values: dict[str, Any], key: str) -> Any:
    """The value of a dotted key; None for a group, and for a missing key."""
    value: Any = values
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if isinstance(value, dict) else value
