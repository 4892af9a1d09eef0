"""Values of a JSON file held against a dataclass's types, so that nothing further on meets what it is not made for."""

import json
import math
import re
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final, NamedTuple, NoReturn, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

MOST_DIGITS: Final = 25  # of a whole number
HALF_LETTER: Final = re.compile(r"\\u[dD][89a-fA-F]")
MOST_NESTED: Final = 40  # levels of a value that may be anything
PLAIN: Final = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
T = TypeVar("T")


def strict_json(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError`, also for numbers and letters that could not be written again."""

    def refuse(number: str) -> NoReturn:
        raise ValueError(f"{number[:20]} is no number that can be stored")

    def whole(number: str) -> int:
        return int(number) if len(number) < MOST_DIGITS else refuse(number)

    def fraction(number: str) -> float:
        return value if math.isfinite(value := float(number)) else refuse(number)

    found = json.loads(text, parse_constant=refuse, parse_int=whole, parse_float=fraction)
    if HALF_LETTER.search(text):
        json.dumps(found, ensure_ascii=False).encode()
    return found


def field_default(one: "Field[Any]") -> Any:
    """What a dataclass's field is where nothing is given; `MISSING` where something must be."""
    return one.default if one.default_factory is MISSING else one.default_factory()


def plain(value: Any) -> Any:
    """What JSON takes, of dataclasses in lists and dictionaries: `asdict` without its copies of what nobody changes."""
    if is_dataclass(value):
        return {name: plain(part) for name, part in vars(value).items()}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


class Layout(NamedTuple):
    """A dataclass's fields."""

    hints: dict[str, Any]
    required: frozenset[str]  # those without a default


@cache
def layout_of(kind: type[Any]) -> Layout:
    hints, own = get_type_hints(kind), fields(kind)
    return Layout(
        {one.name: hints[one.name] for one in own},
        frozenset(one.name for one in own if field_default(one) is MISSING),
    )


def from_plain(kind: type[T], values: Any, name: str) -> T:
    """The dataclass `kind` from what JSON made of it, the dataclasses within it too; a field that is absent has its
    default. Raises `ValueError` naming the field that is missing, unknown or of another type; `name`: of the whole.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{name} is an object with fields, got {type(values).__name__}")
    hints, required = layout_of(kind)  # type: ignore[arg-type]
    odd = (values.keys() - hints.keys()) | (required - values.keys())
    if odd:
        raise ValueError(f"fields of {name} do not match: {', '.join(sorted(odd))}")
    return kind(**{field: checked(hints[field], value, field) for field, value in values.items()})


def checked(hint: Any, value: Any, name: str) -> Any:
    """`value` as the type `hint`. Raises `ValueError`."""
    if hint in PLAIN and is_plain(hint, value):
        return value
    kind = get_origin(hint) or hint
    if hint is Any:
        refuse_deep(value, name)
        return value
    if kind in (Union, types.UnionType):
        (inner,) = (one for one in get_args(hint) if one is not type(None))
        return None if value is None else checked(inner, value, name)
    if kind is list and isinstance(value, list):
        return [checked(get_args(hint)[0], one, f"{name}.{place}") for place, one in enumerate(value)]
    if kind is dict and isinstance(value, dict):
        return {key: checked(get_args(hint)[1], one, f"{name}.{key}") for key, one in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return from_plain(kind, value, name)  # type: ignore[arg-type]
    if isinstance(kind, type) and issubclass(kind, StrEnum) and isinstance(value, str):
        return kind(value)
    what = PLAIN.get(kind, "a list" if kind is list else "an object")
    raise ValueError(f"{name} is malformed: it must be {what}, got {str(value)[:60]!r}")


def is_plain(kind: type[Any], value: Any) -> bool:
    """Whether a text, a truth value or a number is one of `kind`."""
    if isinstance(value, bool) or kind in (bool, str):
        return isinstance(value, kind)
    return isinstance(value, (int, float) if kind is float else int)


def is_number(value: object) -> TypeGuard[int | float]:
    """True for an integer or a float; Python counts booleans among the integers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def refuse_deep(value: Any, name: str, level: int = 0) -> None:
    """Raises `ValueError` for a value nested so deep that no reader of it would come to its end."""
    if level > MOST_NESTED:
        raise ValueError(f"{name} is malformed: it is nested deeper than {MOST_NESTED} levels")
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            refuse_deep(inner, name, level + 1)


def value_at(values: dict[str, Any], key: str) -> Any:
    """The single value that a dotted key has; None for a group, and for a key that is not there."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return None if isinstance(found, dict) else found
