"""What a file says of a study is refused here where no report could be made of it."""

from typing import Any

from sweeplab.records.claim import check_form, claim_from_dict
from sweeplab.records.metrics import known_metric
from sweeplab.records.record import StudyFacts
from sweeplab.records.typed import from_plain, is_number
from sweeplab.runtime.errors import ConfigError


def facts_from_dict(values: Any) -> StudyFacts:
    """What `StudyFacts.to_dict` gave. Raises `ValueError` naming what is missing, unknown or malformed."""
    facts = from_plain(StudyFacts, values, "a study")
    ways = set(facts.objectives.values())
    if not facts.objectives or not all(map(known_metric, facts.objectives)) or ways - {"minimize", "maximize"}:
        raise ValueError(f"objectives must name metrics of a record to minimize or maximize, got {facts.objectives}")
    for key, axis in facts.space.items():
        ends = [axis[end] for end in ("low", "high") if end in axis]
        numbers = all(map(is_number, ends))
        if not isinstance(axis.get("choices", []), list) or not numbers or not (ends or "choices" in axis):
            raise ValueError(f"space.{key} must hold choices, or low and high, got {axis}")
    for place, claim in enumerate(facts.claims):
        try:
            check_form(f"claims.{place}", claim_from_dict(f"claims.{place}", claim))
        except ConfigError as error:
            raise ValueError(str(error)) from error
    return facts
