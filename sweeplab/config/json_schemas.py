"""JSON schemas of users, checked before anything is loaded: none fails as it scores, or asks for a file."""

import re
from collections.abc import Iterator
from typing import Any, Final

from sweeplab.runtime.errors import describe_error, refuse
from sweeplab.runtime.paths import expand_home
from sweeplab.runtime.text_files import parse_json, read_text

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_VALUES: Final = ("enum", "const", "default", "examples")  # which hold what is described, no schemas


def read_schema(path: str) -> Any:
    """A JSON schema from a file. Raises `ConfigError`."""
    try:
        schema = parse_json(read_text(expand_home(path)))
        check_schema(schema)
    except (OSError, ValueError, RecursionError) as error:
        rule = f"must be a JSON schema ({describe_error(error)})"
        raise refuse("evaluation.schema_path", rule, path, "mend the file") from error
    return schema


def choose_validator(schema: dict[str, Any]) -> Any:
    """jsonschema's class for the draft that a schema names; the latest where it names none, or one of its own."""
    from jsonschema.validators import Draft202012Validator, validator_for

    return validator_for(schema, default=Draft202012Validator)


def check_schema(schema: Any) -> None:
    """Raises `ValueError` for what is no JSON schema, for one that refers to what is not within it, and for a pattern
    that is no regular expression."""
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema, dict) or not isinstance(schema.get("$schema", ""), str):
        raise ValueError("it is no object, or its $schema no text")
    try:
        choose_validator(schema).check_schema(schema)
    except SchemaError as error:
        raise ValueError(error.message) from error
    for part in _walk(schema):
        patterns = part.get("patternProperties")
        for pattern in patterns if isinstance(patterns, dict) else ():  # which older drafts do not check
            try:
                re.compile(pattern)
            except (re.error, OverflowError) as error:
                raise ValueError(f"patternProperties: {pattern} is no regular expression") from error
    _refuse_references(schema)


def _walk(schema: Any) -> Iterator[dict[str, Any]]:
    """All objects in which a schema may stand."""
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += [value for name, value in part.items() if name not in _VALUES or isinstance(value, dict)]
        elif isinstance(part, list):
            waiting += part


def _refuse_references(schema: dict[str, Any]) -> None:
    """Raises `ValueError` for a reference that leads out of the schema, or nowhere."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, specification_with

    resource: Any = specification_with(schema.get("$schema", ""), default=DRAFT202012).create_resource(schema)
    resolver = Registry().with_resource(resource.id() or "", resource).resolver(resource.id() or "")
    is_one = all(part is schema or not isinstance(part.get("$id", part.get("id")), str) for part in _walk(schema))
    for part in _walk(schema):
        for name in _REFERENCES:
            reference = part.get(name)
            if not isinstance(reference, str):
                continue  # a field of that name
            if not reference.startswith("#"):
                raise ValueError(f"{name}: {reference} is not within it")
            try:
                if is_one:  # else it may refer into a part that has a name of its own
                    resolver.lookup(reference)
            except Unresolvable as error:
                raise ValueError(f"{name}: {reference} leads nowhere") from error
