"""Importances where not every trial has every key."""

from collections.abc import Callable
from typing import Any

import pytest

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.findings.importance import choose_keys_and_trials, describe_importance, measure_importance

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


@pytest.fixture
def one_at_a_time(make_record: RecordFactory) -> list[TrialRecord]:
    """Ten trials with a rank and a rate, which move the loss, and three with a quantization instead; one failed."""
    ranked = [
        make_record(n, {"quantization": "nf4", "rank": 2**n, "lr": (1e-3, 1e-2)[n % 2]}, loss=1.0 + n + n % 2 / 2)
        for n in range(10)
    ]
    others = [
        make_record(10 + n, {"quantization": name}, loss=5.0 + n) for n, name in enumerate(("nf4", "fp4", "none"))
    ]
    return [*ranked, *others, make_record(13, {"quantization": "int8", "rank": 1, "lr": 1e-3}, loss=None)]


def test_a_key_that_does_not_vary_where_it_is_seen_has_no_share(
    make_facts: FactsFactory, one_at_a_time: list[TrialRecord]
) -> None:
    facts = make_facts(space={})
    shares = measure_importance(facts, one_at_a_time)
    assert [one.name for one in shares] == ["rank", "lr"]  # not a quantization with a share of nothing
    assert sum(one.fanova for one in shares) == pytest.approx(1)
    note = describe_importance(facts, one_at_a_time)
    assert "over the 10 of 13 finished trials that have a value of every varied key" in note
    assert note.endswith("Without quantization: keys that do not vary in these trials, or that not all have.")


def test_where_few_trials_have_all_keys_the_keys_of_all_trials_are_told(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    points: list[dict[str, Any]] = [{"rank": 2**n, "lr": (1e-3, 1e-2)[n % 2]} for n in range(9)]
    points[0] |= {"momentum": 0.9}
    points[1] |= {"momentum": 0.5}
    records = [make_record(n, point, loss=1.0 + n) for n, point in enumerate(points)]
    assert choose_keys_and_trials(make_facts(space={}), records) == (["rank", "lr"], records)
    note = describe_importance(make_facts(space={}), records)
    assert "over all finished trials" in note
    assert "Without momentum:" in note
    whole = [make_record(n, {"rank": 2**n, "lr": (1e-3, 1e-2)[n % 2]}, loss=1.0 + n) for n in range(9)]
    assert "Without" not in describe_importance(make_facts(space={}), whole)
