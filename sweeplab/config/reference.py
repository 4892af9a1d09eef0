"""What there is to say of every key, read off the models and conf: for `--help`, the documentation and editors."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from sweeplab.config.conf import CONF, default_options, is_group, option_values, options, root_values
from sweeplab.config.schema import GROUPS, entries_of, key_names, section_kinds
from sweeplab.config.study import StudyConfig
from sweeplab.records.section import Section, said_of

REQUIRED: Final = "???"  # as conf has it
LEFT_OUT: Final = "left out"  # of an entry's key that need not be given
CLASS_S_OWN: Final = "the class's own"  # of an optimizer's argument that nobody gives
ROW: Final = "  "  # how a row of a table begins in what an option says of itself
_LONG: Final = 60  # characters of a mapping, above which its keys are left out

_TYPES: Final = {
    "boolean": "true | false",
    "null": "null",
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "array": "list",
    "object": "mapping",
}
_RANGES: Final = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
    "multipleOf": "in steps of",
}


class Key(NamedTuple):
    """A key as some options of its group have it; options in which it means something else have another one."""

    name: str  # dotted
    meaning: str
    values: str  # what it takes, in words; empty: anything
    unit: str | None
    defaults: dict[str, Any]  # by option; by "" in a section without options

    def is_decider(self) -> bool:
        """True for the key that says which option it is."""
        group, _, name = self.name.partition(".")
        return group in GROUPS and name == GROUPS[group].decider and self.meaning == _decided_by(group)

    def main_default(self) -> Any:
        """The default of the first option: of the one that conf/config.yaml chooses, where that has the key."""
        return next(iter(self.defaults.values()))

    def other_defaults(self) -> dict[str, list[str]]:
        """Defaults that differ from `main_default`, as they are written, with the options that have them."""
        found: dict[str, list[str]] = {}
        for option, value in self.defaults.items():
            if value != self.main_default():
                found.setdefault(to_flow(value), []).append(option)
        return found


class Part(NamedTuple):
    """A key at the top of the configuration: a section with keys of its own, or a single key."""

    name: str
    meaning: str
    options: dict[str, str]  # name -> what its file says of it; empty where it is no group of conf
    keys: list[Key]

    def is_section(self) -> bool:
        return [key.name for key in self.keys] != [self.name]


def _decided_by(group: str) -> str:
    return f"set by {group}=OPTION"


def to_flow(value: Any) -> str:
    """A value as it is written on a command line; of a long mapping the braces."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(to_flow, value))}]"
    if isinstance(value, dict):
        inside = ", ".join(f"{name}: {to_flow(one)}" for name, one in value.items())
        return f"{{{inside if len(inside) <= _LONG else '...'}}}"
    text = str(value)
    return json.dumps(text) if "\n" in text else text


def _describe_values(schema: dict[str, Any]) -> str:
    """What a JSON schema takes, in words; empty: anything."""
    if "anyOf" in schema:
        kinds = [_describe_values(one) for one in schema["anyOf"]]
        return " | ".join(one for one in kinds if one != _TYPES["integer"] or _TYPES["number"] not in kinds)
    if "enum" in schema or "const" in schema:
        return " | ".join(map(to_flow, schema.get("enum", [schema.get("const")])))
    words = " ".join(
        [
            _TYPES.get(schema.get("type", ""), ""),
            *(f"{word} {to_flow(schema[name])}" for name, word in _RANGES.items() if name in schema),
        ]
    )
    each = schema.get("items") or schema.get("additionalProperties")
    inner = _describe_values(each) if isinstance(each, dict) else ""
    if " | " in inner:
        inner = f"({inner})"
    return f"{words} of {inner}" if inner else words


@cache
def _key_schemas(kind: type[Section]) -> dict[str, dict[str, Any]]:
    """The JSON schema of each key of a section."""
    found: dict[str, dict[str, Any]] = kind.model_json_schema()["properties"]
    return found


def part_names() -> list[str]:
    return list(StudyConfig.model_fields)


def _option_names(part: str) -> list[str]:
    """The options of a group, the default one first; one without a name where it is no group."""
    if not is_group(part):
        return [""]
    chosen = default_options().get(part)
    return sorted(options(part), key=lambda name: name != chosen)


def describe_option(group: str, name: str) -> str:
    """What an option's file says of itself: the comment at its top, without the command.

    Each paragraph is one line, and so is each row of a table, which begins with blanks.
    """
    described: list[str] = []
    begins, is_command = True, False
    for line in (CONF / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").removeprefix(" ").rstrip()
        if is_command or text.startswith(("python -m", "@package")):
            is_command = text.endswith("\\")  # it goes on in the next line
        elif text.startswith(ROW) or begins:
            described.append(text)
            begins = text.startswith(ROW)
        elif text:
            described[-1] += f" {text}"
        begins |= not text
    return "\n".join(line for line in described if line)


def _default(group: str, name: str, field: FieldInfo, values: dict[str, Any]) -> Any:
    """What a key is where nobody sets it."""
    if name in values:
        return values[name]
    if field.is_required():
        return REQUIRED
    return CLASS_S_OWN if group == "optimizer" else field.get_default(call_default_factory=True)


def _option_keys(part: str, option: str) -> Iterator[Key]:
    """The keys of one option."""
    values = option_values(part, option) if option else root_values().get(part) or {}
    kind = GROUPS[part].kind_of(values) if part in GROUPS else section_kinds(part)[0]
    assert kind is not None, "tests hold that every option of conf has a class"
    for name, field in key_names(kind).items():
        default = {option: _default(part, name, field, values)}
        if part in GROUPS and name == GROUPS[part].decider:
            every = " | ".join(value for value in GROUPS[part].options if value != "mixed")
            yield Key(f"{part}.{name}", _decided_by(part), every, None, default)
        else:
            words = _describe_values(_key_schemas(kind)[name])
            yield Key(f"{part}.{name}", field.description or "", words, said_of(field, "unit"), default)
            yield from _entry_keys(f"{part}.{name}", field, option)


def _entry_keys(key: str, field: FieldInfo, option: str) -> Iterator[Key]:
    """The keys of each entry of a list or mapping."""
    prefix, kind = entries_of(key, field) or ("", None)
    for name, inner in key_names(kind).items() if kind is not None else ():
        words = _describe_values(_key_schemas(kind)[name]) if kind is not None else ""
        default = _default(prefix, name, inner, {})
        default = REQUIRED if default == "" else LEFT_OUT if default is None else default
        yield Key(f"{prefix}.{name}", inner.description or "", words, said_of(inner, "unit"), {option: default})


@cache
def describe_part(name: str) -> Part:
    """All that is said of a key at the top of the configuration, and of the keys in it."""
    field = StudyConfig.model_fields[name]
    meaning = field.description or ""
    names = _option_names(name)
    described = {one: describe_option(name, one) for one in names if one}
    if not section_kinds(name):
        annotation: Any = field.annotation
        words = _describe_values(TypeAdapter(annotation).json_schema())
        default = root_values().get(name, field.default)
        key = Key(name, meaning, words, None, {"": default})
        return Part(name, meaning, described, [key, *_entry_keys(name, field, "")])
    keys: dict[tuple[str | None, ...], Key] = {}
    for option in names:
        for key in _option_keys(name, option):
            keys.setdefault(key[:4], key).defaults.update(key.defaults)
    return Part(name, meaning, described, list(keys.values()))
