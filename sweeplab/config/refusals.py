"""What pydantic refuses, in one line that names key, value, rule and remedy."""

import shlex
import types
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sweeplab.config.conf import default_options
from sweeplab.config.schema import GROUPS, OF_A_TRIAL, entries_of, key_names, option_names, schema_keys, section_kinds
from sweeplab.config.suggestions import describe_unknown_key
from sweeplab.records.section import Section, said_of
from sweeplab.runtime.errors import ConfigError, quote_value, refuse, write_value

KINDS: Final[dict[Any, tuple[str, str]]] = {
    int: ("a whole number", "give one, such as 4"),
    float: ("a number", "give one, such as 0.5"),
    bool: ("true or false", "give one of the two"),
    str: ("a text", "take brackets and braces away"),
    list: ("a list", "give a list, such as [1,2]"),
    dict: ("a mapping", "give one, such as {NAME: VALUE}"),
}
_FIRST: Final = ("union_tag_invalid", "union_tag_not_found", "extra_forbidden")
_MOST_SAID: Final = 4  # mistakes in one line
_BOUNDS: Final = ("ge", "gt", "le", "lt")


def refusal(error: ValidationError, values: Mapping[str, Any], section: tuple[str, ...] = ()) -> ConfigError:
    """The mistakes in a configuration's plain `values`, or in one `section` of them, one for each key; a key of another
    option goes before others."""
    found = sorted(error.errors(include_url=False), key=lambda each: each["type"] not in _FIRST)
    said: dict[tuple[int | str, ...], str] = {}
    for one in found:
        path = _plain_path((*section, *one["loc"]))
        if (key := path[:2]) not in said and len(said) < _MOST_SAID:
            said[key] = str(_explain(str(one["type"]), path, one["input"], values))
    return ConfigError("; also, ".join(said.values()))


def _plain_path(loc: Sequence[int | str]) -> tuple[int | str, ...]:
    """The path of a value without the tags of the unions around it."""
    return tuple(loc[:1]) + tuple(loc[2:]) if len(loc) > 1 and loc[0] in GROUPS else tuple(loc)


def dotted(path: Sequence[int | str]) -> str:
    """`data.parts[0].weight`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _explain(error: str, path: tuple[int | str, ...], value: Any, values: Mapping[str, Any]) -> ConfigError:
    """One mistake: pydantic's name of it, the key's path, its value, and the whole configuration."""
    section = str(path[0])
    if error in ("union_tag_invalid", "union_tag_not_found") or (section in GROUPS and len(path) == 1):
        return _unknown_option(section, value)
    if error == "extra_forbidden":
        return _extra(path, value, values)
    field, depth = _field_at(path, values)
    if error == "missing":
        name = dotted(path)
        said = None if field is None else said_of(field, "missing")
        return ConfigError(f"{name} is missing; {said or f'give {name}=...'}")
    if field is None:
        return refuse(section, "must be a mapping", value, f"write {section}.KEY=VALUE")
    rule = said_of(field, "rule")
    if rule is not None:
        path, value = path[:depth], _value_at(values, path[:depth])
    return _broken_rule(dotted(path), error, value, field, rule)


def _unknown_option(section: str, value: Any) -> ConfigError:
    group = GROUPS[section]
    name = f"{section}.{group.decider}"
    if not isinstance(value, Mapping) or group.decider not in value:
        return refuse(name, "is missing", value, f"choose {section}=OPTION, one of {', '.join(option_names(section))}")
    known = [one for one in group.options if one != "mixed"]
    return refuse(name, "is unknown", quote_value(value[group.decider]), f"choose one of {', '.join(known)}")


def _label_of(section: str, values: Mapping[str, Any]) -> str:
    """How a section's option is chosen: `adapter=prompt`, or its decider where conf's options have other names."""
    group = GROUPS[section]
    value = "mixed" if section == "quantization" and values.get("pattern") else str(values.get(group.decider))
    is_option = value in option_names(section)
    return f"{section}={value}" if is_option else f"{section}.{group.decider}={value}"


def remedy_of(section: str, name: str) -> str | None:
    """The option to choose for a key that the chosen one lacks; None where no option has it."""
    group = GROUPS.get(section)
    owners = [] if group is None else group.with_key(name)
    by_value: dict[str, str] = {}
    for option, value in option_names(section).items() if owners else ():
        by_value.setdefault(value, option)
    chosen = [by_value[value] for value in owners if value in by_value]
    chosen.sort(key=lambda one: one != default_options().get(section))
    if section in OF_A_TRIAL and len(chosen) < 4:
        return " or ".join(f"{section}={one}" for one in chosen) or None
    return f"{section}={chosen[0]}" if chosen else None


def _extra(path: tuple[int | str, ...], value: Any, values: Mapping[str, Any]) -> ConfigError:
    """A key that the chosen option lacks, or that no option has."""
    section, name = str(path[0]), dotted(path)
    if section == "optimizer":
        kind = GROUPS[section].kind_of(dict(values[section]))
        taken = [] if kind is None else [one for one in key_names(kind) if one != "_target_"]
        return ConfigError(
            f"{name} is no argument of {values[section]['_target_']}, which takes {', '.join(taken)}; drop it, or "
            "choose another optimizer"
        )
    other = remedy_of(section, str(path[-1])) if len(path) == 2 else None
    if other is not None:
        rule = f"has no effect with {_label_of(section, values[section])}"
        return refuse(name, rule, value, f"choose {other}, or leave {name} out")
    if len(path) > 2:
        known = _keys_of_entry(path)
        return ConfigError(
            f"{dotted(path[:-2])} holds an entry with {path[-1]}, which is no key of one; choose from "
            f"{', '.join(known)}"
        )
    return ConfigError(describe_unknown_key(name, str(value) if isinstance(value, str | int | float) else None))


def _keys_of_entry(path: tuple[int | str, ...]) -> list[str]:
    """Keys of the sections that a list at `path` without its last two parts holds."""
    field = schema_keys()[dotted(path[:-2])]
    entry = entries_of(dotted(path[:-2]), field)
    return [] if entry is None else list(entry[1].model_fields)


def _field_at(path: tuple[int | str, ...], values: Mapping[str, Any]) -> tuple[FieldInfo | None, int]:
    """The key that `path` leads into, and how many parts name it; None for a section as a whole."""
    section = str(path[0])
    kinds: Sequence[type[Section]] = section_kinds(section)
    if section in GROUPS:
        chosen = GROUPS[section].kind_of(values[section]) if isinstance(values[section], dict) else None
        kinds = [] if chosen is None else [chosen]
    if not kinds:
        field = schema_keys().get(section)
        entry = None if field is None or len(path) < 3 else entries_of(section, field)
        return (field, 1) if entry is None else (key_names(entry[1]).get(str(path[2])), 3)
    if len(path) == 1:
        return None, 1
    field = key_names(kinds[0]).get(str(path[1]))
    entry = entries_of(dotted(path[:2]), field) if field is not None and len(path) == 4 else None
    if entry is not None:  # such as data.parts[0].weight
        return key_names(entry[1]).get(str(path[3])), 4
    return field, 2


def _value_at(values: Mapping[str, Any], path: Sequence[int | str]) -> Any:
    found: Any = values
    for part in path:
        found = found[part]
    return found


def _bounds_of(field: FieldInfo) -> dict[str, Any]:
    """Limits of a number: `ge`, `gt`, `le`, `lt`."""
    limits = (one for one in field.metadata if isinstance(one, annotated_types.BaseMetadata))
    return {name: getattr(one, name) for one in limits for name in _BOUNDS if hasattr(one, name)}


def _rule_of(field: FieldInfo) -> str | None:
    """What a number's limits say: `must be from 0 to below 1`."""
    bounds = _bounds_of(field)
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if low is None and high is None:
        return None
    if high is None:
        return f"must be at least {low}" if "ge" in bounds else f"must be above {low}"
    if "ge" in bounds:
        return f"must be from {low} to {'' if 'le' in bounds else 'below '}{high}"
    return f"must be above {low} and at most {high}" if "le" in bounds else f"must be between {low} and {high}"


def _alternatives(annotation: Any) -> list[Any]:
    """The types of an annotation without None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [one for one in get_args(annotation) if one is not type(None)]
    return [annotation]


def _choices_of(field: FieldInfo) -> list[str]:
    """The words that a key can be; none where it can be more than these."""
    return _words(field.annotation)


def _words(annotation: Any) -> list[str]:
    kinds = [one for one in _alternatives(annotation) if get_origin(one) is Literal]
    return [str(choice) for one in kinds for choice in get_args(one)]


def _words_within(field: FieldInfo) -> list[str]:
    """The words that a key, or an entry of its list or mapping, can be."""
    entries = [one for kind in _alternatives(field.annotation) for one in get_args(kind)[-1:]]
    return _choices_of(field) or [word for entry in entries for word in _words(entry)]


def _broken_rule(name: str, error: str, value: Any, field: FieldInfo, rule: str | None) -> ConfigError:
    """A value that breaks its key's rule, or has another type."""
    remedy = said_of(field, "remedy")
    if rule is not None:
        return refuse(name, rule, value, remedy or "mend it")
    if error == "literal_error":
        return refuse(name, "is unknown", quote_value(value), f"choose one of {', '.join(_words_within(field))}")
    if error.endswith("_type") or error == "is_instance_of":
        wanted, example = _wanted(error, field)
        if value is None:
            example = "give a value, since it cannot be null"
        if isinstance(value, list) and name.partition(".")[0] in OF_A_TRIAL:
            varied = write_value(value).replace(" ", "")
            example = f"to vary it, write space.{name}.choices={varied}"
        if error == "list_type" and isinstance(value, str | int | float) and name in schema_keys():
            example = f"type {shlex.quote(f'{name}=[{value}]')}"
        return refuse(name, f"must be {wanted}", value, example)
    return refuse(name, _rule_of(field) or "must be another value", value, remedy or "mend it")


def _wanted(error: str, field: FieldInfo) -> tuple[str, str]:
    """In words what type a value should have, and an example."""
    kind = {"int_type": int, "float_type": float, "bool_type": bool, "string_type": str, "list_type": list}.get(error)
    if kind is None:
        annotation = _alternatives(field.annotation)[0]
        kind = get_origin(annotation) or annotation
    return KINDS.get(kind, KINDS[dict])
