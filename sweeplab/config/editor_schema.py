"""A JSON schema of an experiment's YAML, with which an editor completes and checks keys.

`python -m sweeplab.config.editor_schema > docs/schema.json`
"""

import json
from typing import Any, Final

from pydantic import TypeAdapter

from sweeplab.config.schema import GROUPS, OF_A_TRIAL, section_kinds
from sweeplab.config.study import AxisConfig, StudyConfig

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_INTERPOLATION: Final[dict[str, Any]] = {
    "description": "another key's value, as ${section.key}",
    "type": "string",
    "pattern": r"\$\{",
}

_LEFT_OUT: Final = ("title", "default", "unit", "rule", "remedy", "missing", "unless", "needs")


def _experiment_schema() -> dict[str, Any]:
    """The schema of an experiment: any key of any option, since which options are chosen may be said elsewhere."""
    axis = {"description": "what varies: choices, or numbers from low to high", **_closed(_axis_keys())}
    definitions: dict[str, Any] = {"axis": axis, "interpolation": _INTERPOLATION}
    parts = {name: _part(name, definitions) for name in StudyConfig.model_fields}
    parts["space"] = {"description": parts["space"]["description"], **_space(parts)}
    chosen = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
    defaults = {
        "description": "the options that the experiment chooses",
        "type": "array",
        "items": {"anyOf": [chosen, {"type": "string"}]},
    }
    whole = _closed({"defaults": defaults, **parts})
    return {"$schema": _DIALECT, "title": "an experiment of sweeplab", **whole, "$defs": definitions}


def write_schema() -> str:
    return json.dumps(_experiment_schema(), indent=1, ensure_ascii=False) + "\n"


def _axis_keys() -> dict[str, Any]:
    found: dict[str, Any] = _strip(AxisConfig.model_json_schema())["properties"]
    return found


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    """An object of these keys alone, none of which has to be there."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _part(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key at the top; what it refers to goes into `definitions`."""
    field = StudyConfig.model_fields[name]
    if not section_kinds(name):
        annotation: Any = field.annotation
        return {"description": field.description, **_plain(TypeAdapter(annotation).json_schema(), definitions)}
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in section_kinds(name):
        for key, schema in _plain(kind.model_json_schema(), definitions)["properties"].items():
            several = found.setdefault(key, [])
            if schema not in several:
                several.append(schema)
    keys: dict[str, Any] = {
        key: {"anyOf": [*several, {"$ref": "#/$defs/interpolation"}]} for key, several in found.items()
    }
    if name in GROUPS:
        keys[GROUPS[name].decider] = {"description": f"set by {name}: OPTION in defaults", "type": "string"}
    section = {"description": field.description, **_closed(keys)}
    if name == "optimizer":  # another class itself says what it takes
        return {"anyOf": [section, {"type": "object", "required": ["_target_"]}]}
    return section


def _plain(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """pydantic's schema without what is no editor's concern; its definitions go into `definitions`."""
    inner = schema.pop("$defs", {})
    definitions.update({name: _strip(one) for name, one in inner.items()})
    stripped: dict[str, Any] = _strip(schema)
    return stripped


def _strip(value: Any) -> Any:
    """Without titles, defaults, and what `key` keeps beside; text may be written as a number, as `Text` takes it."""
    if isinstance(value, list):
        return [_strip(one) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {
        name: {key: _strip(one) for key, one in inner.items()} if name == "properties" else _strip(inner)
        for name, inner in value.items()
        if name not in _LEFT_OUT
    }
    if kept.get("type") == "string" and not kept.keys() & {"enum", "const"}:
        kept["type"] = ["string", "number"]
    return kept


def _space(parts: dict[str, Any]) -> dict[str, Any]:
    """What can vary: parts of a trial and keys in them, nested or with dots; deeper keys are the user's own."""
    axis = {"$ref": "#/$defs/axis"}
    found: dict[str, Any] = {}
    for name in OF_A_TRIAL:
        section = parts[name].get("anyOf", [parts[name]])[0]["properties"]
        inside = {key: {"type": "object"} if _is_mapping(one) else axis for key, one in section.items()}
        found[name] = {**_closed({**_axis_keys(), **inside}), "description": f"{name} as an axis, or keys of it"}
        found |= {f"{name}.{key}": one for key, one in inside.items()}
    return _closed(found)


def _is_mapping(schema: dict[str, Any]) -> bool:
    return any(one.get("type") == "object" for one in schema.get("anyOf", []))


if __name__ == "__main__":
    print(write_schema(), end="")
