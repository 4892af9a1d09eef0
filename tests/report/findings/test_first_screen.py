"""The first screen: what a reader asks first, with the numbers of the tables."""

from collections.abc import Callable

import pytest

from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.first_screen import build_first_screen

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]

BASE = BaseScore("0" * 32, 3.0, {}, 1.0, {})
SPACE = {"adapter.rank": {"choices": [4, 8, 16]}}


def answers(
    make_facts: FactsFactory, make_record: RecordFactory, rows: list[tuple[int, list[float]]]
) -> dict[str, str]:
    pairs = [(rank, seed, loss) for rank, losses in rows for seed, loss in enumerate(losses)]
    records = [make_record(n, {"adapter.rank": rank}, seed, loss) for n, (rank, seed, loss) in enumerate(pairs)]
    facts = make_facts(space=SPACE, seeds=sorted({seed for _, seed, _ in pairs}))
    screen = build_first_screen(facts, group_by_setting(facts, records), [BASE])
    assert screen is not None
    assert screen.overrides.startswith("adapter.rank=")
    return {point.question: point.answer for point in screen.points}


def test_a_clear_answer_needs_nothing_more(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    said = answers(make_facts, make_record, [(4, [2.0, 2.03]), (8, [1.0, 1.01]), (16, [3.0, 3.01])])
    assert said["held-out loss"].startswith("1.005 nats/target [")
    assert said["Against the base"].startswith("1.995 nats/target [")
    assert said["Against the next"].startswith("rank=4 is 1.010 nats/target [")
    assert said["Against the next"].endswith("worse: clearly worse")
    assert said["How sure"] == "2 of 2 others clearly worse, 0 may be as good (95 %, 2 seeds)"
    assert said["Memory"] == "512 MiB at its peak, of the process"
    assert said["Trained"] == "1,000 parameters"
    assert said["What next"] == "nothing: the answer holds among what was tried"


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        ([(4, [1.0, 1.01]), (8, [2.0, 2.02]), (16, [3.0, 3.03])], "try smaller values of rank"),
        ([(4, [1.5]), (8, [1.0]), (16, [3.0])], "more seeds, study.seeds=[0,1,2]"),
        ([(4, [1.1, 1.25]), (8, [1.0, 1.1]), (16, [8.0, 8.1])], "seeds would tell rank=4 apart"),
        ([(4, [1.0, 1.1001]), (8, [1.1, 1.0]), (16, [8.0, 8.1])], "take the cheapest of those that may be as good"),
    ],
)
def test_what_next_follows_from_what_is_open(
    make_facts: FactsFactory, make_record: RecordFactory, rows: list[tuple[int, list[float]]], advice: str
) -> None:
    assert advice in answers(make_facts, make_record, rows)["What next"]


def test_one_seed_is_not_sure_at_all(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    said = answers(make_facts, make_record, [(4, [1.5]), (8, [1.0])])
    assert said["How sure"] == "not at all: 1 seed, and another may turn it around"
    assert said["Against the next"] == "rank=4 is 0.500 nats/target worse; chance is not known"


def test_nothing_is_said_where_nothing_has_a_value(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    facts = make_facts()
    failed = group_by_setting(facts, [make_record(0, {"adapter.rank": 4}, 0, None)])
    assert build_first_screen(facts, failed, []) is None
