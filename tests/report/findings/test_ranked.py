"""The settings as a terminal shows them, beside values computed by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sweeplab.records.record import BaseScore, Score, StudyFacts, TrialRecord
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.ranked import Position, Ranking, rank_settings

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]
NEW = "scores.new.exact_match"


def rank(facts: StudyFacts, records: list[TrialRecord], most: int = 12, bases: tuple[BaseScore, ...] = ()) -> Ranking:
    return rank_settings(facts, group_by_setting(facts, records), None, bases, most)


@pytest.fixture
def along(make_record: RecordFactory) -> list[TrialRecord]:
    """Losses of three ranks and two seeds; the one in the middle is best."""
    losses = {4: (2.0, 2.25), 8: (1.0, 1.25), 16: (1.5, 1.75)}
    pairs = [(rank, seed, loss) for rank, both in losses.items() for seed, loss in enumerate(both)]
    return [make_record(n, {"adapter.rank": rank}, seed, loss) for n, (rank, seed, loss) in enumerate(pairs)]


def test_one_axis_of_numbers_is_in_its_order_and_the_best_is_marked(
    make_facts: FactsFactory, along: list[TrialRecord]
) -> None:
    found = rank(make_facts(seeds=[0, 1]), along[::-1])
    assert [row.varied for row in found.rows] == [["4"], ["8"], ["16"]]
    assert [row.mean for row in found.rows] == ["2.125", "1.125", "1.625"]
    assert [row.is_best for row in found.rows] == [False, True, False]
    assert found.title == "held-out loss in nats/target, lower is better, 95 % intervals over seeds"
    assert (found.costs, found.rows[0].costs) == (["memory", "training", "parameters"], ["512 MiB", "10.5 s", "1,000"])


def test_the_best_stay_where_there_are_too_many(make_facts: FactsFactory, along: list[TrialRecord]) -> None:
    found = rank(make_facts(seeds=[0, 1]), along, most=2)
    assert [row.varied for row in found.rows] == [["8"], ["16"]]
    assert found.num_left_out == 1


def test_several_axes_are_in_the_order_of_their_means(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    space = {"adapter.rank": {"choices": [4, 8]}, "optimizer.lr": {"choices": [0.1, 0.2]}}
    points = [(4, 0.1, 0.3), (4, 0.2, 0.9), (8, 0.1, 0.6)]
    records = [
        make_record(
            n,
            {"adapter.rank": rank, "optimizer.lr": lr},
            0,
            1.0,
            {"new": {"exact_match": Score(score, None, 10)}},
        )
        for n, (rank, lr, score) in enumerate(points)
    ]
    failed = make_record(3, {"adapter.rank": 8, "optimizer.lr": 0.2}, 0, None)
    found = rank(make_facts(space=space, objectives={NEW: "maximize"}), [failed, *records])
    assert found.varied == ["rank", "lr"]
    assert [row.varied for row in found.rows] == [["4", "0.2"], ["8", "0.1"], ["4", "0.1"], ["8", "0.2"]]
    assert [row.mean for row in found.rows] == ["0.900", "0.600", "0.300", "failed"]
    assert found.rows[-1].position is None
    assert found.title.startswith("exact match on new, higher is better")
    assert found.costs[-1] == "held-out loss"


def test_switches_of_one_kind_are_one_column_that_names_what_is_on(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    keys = ["adapter.lora_query", "adapter.lora_mlp"]
    masks = [(True, True), (True, False), (False, False)]
    records = [make_record(n, dict(zip(keys, mask, strict=True)), 0, 1.0 + n) for n, mask in enumerate(masks)]
    space = {key: {"choices": [True, False]} for key in keys}
    found = rank(make_facts(space=space), records)
    assert found.varied == ["lora"]
    assert [row.varied for row in found.rows] == [["query + MLP"], ["query"], ["no lora"]]


def test_the_base_stands_first_without_costs(make_facts: FactsFactory, along: list[TrialRecord]) -> None:
    base = BaseScore("key", 2.5, {}, 1.0, {})
    found = rank(make_facts(seeds=[0, 1]), along, bases=(base,))
    first = found.rows[0]
    assert (first.varied, first.mean, first.is_base, first.position) == (["base"], "2.500", True, Position(2.5))
    assert first.costs == ["", "", ""]


def test_losses_of_different_data_are_no_order(make_facts: FactsFactory, along: list[TrialRecord]) -> None:
    space = {"data.fraction": {"choices": [0.5, 1.0]}}
    assert rank(make_facts(seeds=[0, 1]), along).is_comparable
    apart = [
        replace(one, params={"data.study": name}, config={"data": {"study": name}})
        for one, name in zip(along[:2], "ab", strict=True)
    ]
    assert not rank(make_facts(space=space), apart).is_comparable
