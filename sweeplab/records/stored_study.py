"""Reads the facts of a study from JSON, and refuses those from which no report could be written."""

from typing import Any

from sweeplab.records.claim import check_form, claim_from_dict
from sweeplab.records.metrics import known_metric
from sweeplab.records.record import StudyFacts
from sweeplab.records.typed import from_plain, is_number
from sweeplab.runtime.errors import ConfigError


def facts_from_dict(values: Any) -> StudyFacts:
    """The facts that `StudyFacts.to_dict` wrote. Raises `ValueError` that names a missing, unknown or wrong field."""
    facts = from_plain(StudyFacts, values, "a study")
    directions = set(facts.objectives.values())
    if not facts.objectives or not all(map(known_metric, facts.objectives)) or directions - {"minimize", "maximize"}:
        raise ValueError(f"objectives must name metrics of a record to minimize or maximize, got {facts.objectives}")
    for key, axis in facts.space.items():
        ends = [axis[end] for end in ("low", "high") if end in axis]
        numbers = all(map(is_number, ends))
        if not isinstance(axis.get("choices", []), list) or not numbers or not (ends or "choices" in axis):
            raise ValueError(f"space.{key} must hold choices, or low and high, got {axis}")
    for index, claim in enumerate(facts.claims):
        try:
            check_form(f"claims.{index}", claim_from_dict(f"claims.{index}", claim))
        except ConfigError as error:
            raise ValueError(str(error)) from error
    return facts
