"""Which settings are surely beaten, and what surely fits a budget."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from sweeplab.records.record import Phase, StudyFacts, TrialRecord
from sweeplab.report.evidence.estimates import Evidence, gather_evidence
from sweeplab.report.evidence.fronts import find_beaten, gather_cost
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.budgets import build_budget_tables, describe_pareto
from sweeplab.statistics.intervals import level_with

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]

LOSS = "heldout_loss_nats_per_token"
SECONDS = "phases.train.seconds"
NOISE = ((0.0, 1.0, -1.0), (1.0, -1.0, 0.0), (-1.0, 0.0, 1.0), (0.0, -1.0, 1.0))  # by setting and seed


def gather(
    make_facts: FactsFactory, make_record: RecordFactory, made: list[tuple[float, float, int]], num_seeds: int = 3
) -> tuple[StudyFacts, Evidence]:
    """Settings of (loss, seconds, bytes); losses move by 0.2 % and times by 1 % from seed to seed."""
    records = [
        make_record(
            10 * n + seed,
            {"adapter.rank": 2**n},
            seed,
            loss * (1 + 0.002 * NOISE[n][seed]),
            adapter_bytes=size,
            phases={"train": Phase(seconds * (1 + 0.01 * NOISE[n - 1][seed]))},
        )
        for n, (loss, seconds, size) in enumerate(made)
        for seed in range(num_seeds)
    ]
    facts = make_facts(objectives={LOSS: "minimize", "adapter_bytes": "minimize"}, seeds=list(range(num_seeds)))
    found = gather_evidence(facts, group_by_setting(facts, records), LOSS, None)
    assert found is not None
    return facts, found


@pytest.mark.parametrize(
    ("worse", "is_beaten"),
    [
        ((2.0, 10.0, 1000), True),  # worse at the same costs
        ((2.0, 9.8, 1000), True),  # what is measured may be 5 % cheaper
        ((2.0, 9.0, 1000), False),
        ((2.0, 10.0, 999), False),  # a counted byte is a byte
        ((1.001, 10.0, 1000), False),  # not surely worse
    ],
)
def test_beaten_is_who_is_surely_worse_and_not_cheaper(
    make_facts: FactsFactory, make_record: RecordFactory, worse: tuple[float, float, int], is_beaten: bool
) -> None:
    _, found = gather(make_facts, make_record, [(1.0, 10.0, 1000), worse, (3.0, 1.0, 10)])
    costs = [gather_cost(found.settings, name) for name in (SECONDS, "adapter_bytes")]
    assert [cost.is_counted for cost in costs] == [False, True]
    assert find_beaten([found], costs).tolist() == [False, is_beaten, False]


def test_with_one_seed_nobody_is_beaten_and_no_time_fits(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    facts, found = gather(make_facts, make_record, [(1.0, 10.0, 1000), (2.0, 20.0, 2000), (3.0, 30.0, 3000)], 1)
    assert not find_beaten([found], [gather_cost(found.settings, SECONDS)]).any()
    assert build_budget_tables(found) == []
    assert "With one seed no setting is called dominated" in describe_pareto(facts, found)


def test_a_times_interval_is_that_of_its_logarithms(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    """By hand: variances of log seconds after seeds' means, Sidak's level for all settings; at least that wide."""
    _, found = gather(make_facts, make_record, [(1.0, 10.0, 1), (2.0, 20.0, 1), (3.0, 40.0, 1)])
    cost = gather_cost(found.settings, SECONDS)
    logs_KS = np.log([[record.phases["train"].seconds for record in one.records] for one in found.settings])
    left_KS = logs_KS - logs_KS.mean(axis=1, keepdims=True) - logs_KS.mean(axis=0) + logs_KS.mean()
    level = level_with(3) ** (1 / 3)
    reach = stats.t.ppf((1 + level) / 2, 4) * np.sqrt((left_KS**2).sum() / 4 / 3)
    for one in cost.estimates:
        assert one is not None
        assert one.low is not None
        assert one.high is not None
        assert one.high / one.value == pytest.approx(one.value / one.low)
        assert np.log(one.high / one.value) >= reach * (1 - 1e-9)
        assert one.high < 1.2 * one.value


def test_a_budget_lists_what_surely_fits_and_what_may(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    """The second is the best at 20 s, the third as good as it, and the last too close in time to say."""
    made = [(3.0, 10.0, 1), (1.0, 20.0, 1), (1.0005, 15.0, 1), (0.9, 20.4, 1)]
    _, found = gather(make_facts, make_record, made)
    ((title, table),) = build_budget_tables(found)
    assert title == "Best within a budget of training time"
    assert [row[1].text for row in table.rows] == ["rank=1", "rank=4", "rank=2", "rank=8"]
    ends = [one.high for index in (0, 2, 1, 3) if (one := gather_cost(found.settings, SECONDS).estimates[index])]
    assert [row[0].size for row in table.rows] == pytest.approx(ends)
    assert [row[3].text for row in table.rows] == ["–", "–", "rank=4", "–"]
    assert [row[4].text for row in table.rows] == ["–", "–", "rank=8", "–"]


def test_a_setting_whose_time_is_hardly_known_has_no_budget(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    """Two runs of a few minutes surely fitted from eleven hours on."""
    seconds = [[280.0, 330.0], [600.0, 640.0], [900.0, 700.0]]
    records = [
        make_record(10 * n + seed, {"adapter.rank": n}, seed, 1.0 + n, phases={"train": Phase(one, 2**20)})
        for n, by_seed in enumerate(seconds)
        for seed, one in enumerate(by_seed)
    ]
    facts = make_facts(space={"adapter.rank": {"choices": [0, 1, 2]}}, seeds=[0, 1])
    found = gather_evidence(facts, group_by_setting(facts, records), LOSS, None)
    assert found is not None
    cost = gather_cost(found.settings, SECONDS)
    assert cost.vague_K.all()
    assert build_budget_tables(found) == []
    said = describe_pareto(facts, found)
    assert "rank=0 and rank=1 and rank=2 have no budget of training time below: by so few runs" in said


def test_a_setting_that_was_timed_once_is_not_said_to_be_timed_with_each_seed(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    rows = [(1, 0, 10.0), (1, 1, 10.1), (2, 0, 20.0), (2, 1, 20.1), (3, 0, 30.0)]
    records = [
        make_record(n, {"adapter.rank": rank}, seed, 1.0 + rank + n / 99, phases={"train": Phase(seconds, 2**20)})
        for n, (rank, seed, seconds) in enumerate(rows)
    ]
    facts = make_facts(space={"adapter.rank": {"choices": [1, 2, 3]}}, seeds=[0, 1])
    found = gather_evidence(facts, group_by_setting(facts, records), LOSS, None)
    assert found is not None
    said = describe_pareto(facts, found)
    assert "was timed with each seed, among the other settings, 1 of 3 once only." in said
