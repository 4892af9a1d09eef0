"""docs/schema.json is current, takes every experiment of conf, and refuses a mistyped key."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from sweeplab.config.conf import CONF, options
from sweeplab.config.editor_schema import write_schema

FILE = Path(__file__).parents[2] / "docs" / "schema.json"
VALIDATOR = Draft202012Validator(json.loads(FILE.read_text(encoding="utf-8")))


def body(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8"))
    return values


def test_the_committed_schema_is_current_and_is_one() -> None:
    """Else: python -m sweeplab.config.editor_schema > docs/schema.json."""
    assert FILE.read_text(encoding="utf-8") == write_schema()
    Draft202012Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize("name", options("experiment"))
def test_every_experiment_is_valid(name: str) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(body(name))] == []


@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ("adapter", {"rnak": 3}),
        ("adapter", {"rank": 0}),
        ("adapter", {"bias": "some"}),
        ("training", {"max_length": "long"}),
        ("optimizer", {"learning_rate": 1}),
        ("study", {"sead": 1}),
        ("space", {"adapter": {"rnak": {"choices": [1]}}}),
        ("space", {"adapter": {"rank": {"choises": [1]}}}),
        ("space", {"adapter.rnak": {"choices": [1]}}),
        ("space", {"sampler": {"choices": ["tpe"]}}),
        ("space", {"adapter": {"rank": {"choices": 4}}}),
        ("space", {"optimizer": {"lr": {"low": 1, "high": 2, "step": 0}}}),
        ("adaptor", {"rank": 3}),
    ],
)
def test_a_mistyped_key_or_value_is_refused(section: str, wrong: dict[str, Any]) -> None:
    values = deepcopy(body("rank_sweep"))
    assert VALIDATOR.is_valid(values)
    values[section] = {**values.get(section, {}), **wrong}
    assert not VALIDATOR.is_valid(values)
