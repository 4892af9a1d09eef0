"""What the report says of the judge that compared responses."""

from collections.abc import Sequence

import numpy as np

from sweeplab.config.evaluation import OWN_TASK
from sweeplab.records.items import Items
from sweeplab.records.judged import describe_judge
from sweeplab.records.record import StudyFacts, TrialRecord


def tell_of_judge(facts: StudyFacts, records: Sequence[TrialRecord], items: Items | None) -> list[str]:
    """Whether the judge preferred a place, over all trials, and what could not be read; nothing without a judge."""
    asked = facts.config.get("evaluation", {})
    if asked.get("score") != "judge" or items is None:
        return []
    tables = [items.get(f"scores.{OWN_TASK}.{name}") for name in ("first_rate", "unreadable")]
    numbers = [
        one.number for one in records if all(table is not None and one.number in table.values for table in tables)
    ]
    if not numbers:
        return []
    means = [np.mean([table.values[one] for one in numbers], axis=0).tolist() for table in tables if table is not None]
    sentences = describe_judge(means[0], means[1], len(numbers))
    against = "the base's responses" if asked.get("judge_reference", "base") == "base" else "the answers of the file"
    who = f"Judged by {asked.get('judge_model')}, both orders asked, against {against}."
    return [who, *(f"{one[0].upper()}{one[1:]}." for one in sentences)]
