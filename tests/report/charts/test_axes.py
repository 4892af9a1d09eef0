"""The axis that figures are drawn against, and what has a place on it."""

from collections.abc import Callable
from typing import Any

import pytest

from sweeplab.records.record import Score, StudyFacts, TrialRecord
from sweeplab.report.charts.axes import Axis, choose_axis
from sweeplab.report.charts.scatter import build_metric_charts
from sweeplab.report.charts.ticks import Tick
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.claims_table import PublishedValue

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


def axis_of(facts: StudyFacts, make_record: RecordFactory, points: list[dict[str, Any]]) -> str | None:
    return choose_axis(facts, [make_record(n, point) for n, point in enumerate(points)]).key


def test_numbers_come_before_names_and_before_what_one_trial_of_many_has(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    facts = make_facts(space={})
    grid = [{"name": name, "epochs": epochs} for name in "ab" for epochs in (1, 2)]
    assert axis_of(facts, make_record, grid) == "epochs"
    one_at_a_time: list[dict[str, Any]] = [{"name": "a", "epochs": 1}] * 5 + [{"name": "b", "epochs": 1}] * 5
    one_at_a_time.append({"name": "a", "epochs": 2})
    assert axis_of(facts, make_record, one_at_a_time) == "name"
    conditional = [*one_at_a_time, *({"name": "a", "epochs": 1, "rank": rank} for rank in (4, 8, 16))]
    assert axis_of(facts, make_record, conditional) == "rank"
    rare = [{"name": "a", "epochs": 1}] * 9 + [{"name": "b", "epochs": 1}, {"name": "a", "epochs": 2}]
    assert axis_of(facts, make_record, rare) == "epochs"  # as crowded as the other, and has numbers
    assert axis_of(facts, make_record, [{"name": "a", "epochs": 1}]) == "name"
    assert axis_of(make_facts(), make_record, []) == "adapter.rank"


@pytest.mark.parametrize(
    ("scale", "value", "has"),
    [
        ("category", "nf4", True),
        ("category", "fp4", False),
        ("linear", 0, True),
        ("linear", "nf4", False),
        ("linear", True, False),
        ("log", 3e-4, True),
        ("log", 0.0, False),  # a log scale has no place for it
    ],
)
def test_what_an_axis_has_a_place_for(scale: Any, value: Any, has: bool) -> None:
    axis = Axis("key", "key", scale, [Tick(0.0, "nf4")])
    assert axis.has({"key": value}) is has
    assert not axis.has({"other": value})


def test_a_published_value_of_what_no_trial_has_is_not_drawn(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    facts = make_facts(space={"quantization.scheme": {"choices": ["nf4", "fp4"]}})
    scores = {"new": {"acc": Score(0.5, 0.05, 10)}}
    records = [make_record(n, {"quantization.scheme": "nf4"}, n, scores=scores) for n in (0, 1)]
    published = [
        PublishedValue("scores.new.acc", {"quantization.scheme": one}, 0.4, "a paper") for one in ("nf4", "fp4")
    ]
    first = build_metric_charts(facts, group_by_setting(facts, records), published)[0]
    [line] = [line for line in first.lines if line.label == "published"]
    assert [(dot.x, dot.y) for dot in line.dots] == [(0.0, 0.4)]
    assert all(
        line.label != "published"
        for line in build_metric_charts(facts, group_by_setting(facts, records), published[1:])[0].lines
    )
