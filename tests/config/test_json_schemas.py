"""A schema that would fail as it scores, or ask for a file, is refused before; against what jsonschema makes of it."""

from typing import Any

import pytest

from sweeplab.config.json_schemas import check_schema, choose_validator

DRAFT_4 = "http://json-schema.org/draft-04/schema"


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "http://example.org/own", "type": "object"},
        {"properties": {"a": {"$ref": "#/properties/b"}, "b": {}}},
        {"properties": {"$ref": {"type": "string"}}, "enum": [{"$ref": "http://a/b"}]},
        {"$schema": DRAFT_4, "definitions": {"a": {"type": "string"}}, "items": {"$ref": "#/definitions/a"}},
        {"$id": "http://a/b", "$defs": {"a": {"$id": "c", "$defs": {"d": {}}, "items": {"$ref": "#/$defs/d"}}}},
        {"$defs": {"a": {"$anchor": "here"}}, "items": {"$ref": "#here"}},
        {"$dynamicAnchor": "node", "properties": {"next": {"$dynamicRef": "#node"}}},
    ],
)
def test_a_schema_that_refers_into_itself_scores(schema: dict[str, Any]) -> None:
    check_schema(schema)
    for value in ({"a": 1, "next": {}}, [1], "a", None):
        choose_validator(schema)(schema).is_valid(value)  # raises where a reference leads nowhere


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$schema": {}}, r"its \$schema no text"),
        ({"anyOf": [{"$ref": "other.json"}]}, r"\$ref: other\.json is not within it"),
        ({"$dynamicRef": "http://a/b"}, r"\$dynamicRef: http://a/b is not within it"),
        ({"$ref": "#/definitions/a", "$defs": {"a": {}}}, r"\$ref: #/definitions/a leads nowhere"),
        ({"items": {"$ref": "#there"}}, r"\$ref: #there leads nowhere"),
        ({"$schema": DRAFT_4, "patternProperties": {"(": {}}}, r"patternProperties: \( is no regular expression"),
        ({"pattern": "("}, "is not a 'regex'"),
    ],
)
def test_a_schema_that_would_fail_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_schema(schema)
