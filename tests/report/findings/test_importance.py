"""Importances where not every trial has every key."""

from collections.abc import Callable
from typing import Any

import pytest

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.evidence.estimates import gather_evidence
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.importance import (
    build_effects_table,
    build_importance_table,
    choose_keys_and_trials,
    describe_importance,
    measure_importance,
)

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
    assert sum(one.fanova[0] for one in shares) <= 1 <= sum(one.fanova[1] for one in shares)
    assert all(one.ped_anova is None for one in shares)  # the best tenth is one trial
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


def test_shares_are_ranges_over_the_seeds(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    """Two seeds that say the opposite: with one only the rank moves the loss, with the other only the rate."""
    points = [(rank, lr) for rank in range(10) for lr in range(10)]
    records = [
        make_record(2 * n + seed, {"rank": rank, "lr": lr}, seed, 1.0 + (rank, lr)[seed])
        for n, (rank, lr) in enumerate(points)
        for seed in (0, 1)
    ]
    facts = make_facts(space={}, seeds=[0, 1])
    shares = measure_importance(facts, records)
    for one in shares:
        assert one.ped_anova is not None
        for low, high in (one.fanova, one.ped_anova):
            assert low < 0.05
            assert high > 0.95
    table = build_importance_table(shares)
    assert table is not None
    assert [cell.text for cell in table.rows[0][1:]] == ["0.0 to 1.0"] * 2
    assert "from the least to the largest of 2 seeds" in describe_importance(facts, records)
    few = build_importance_table(measure_importance(facts, records[:90]))
    assert few is not None
    assert [column.title for column in few.columns] == ["varied", "fANOVA"]
    assert "PED-ANOVA is left out" in describe_importance(facts, records[:90])


def test_a_grid_that_lacks_a_run_has_no_analysis_of_variance(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    """As while a study runs: every share was nan %, with p 1.000."""
    points = [(rank, lr, seed) for seed in (0, 1) for rank in (1, 2) for lr in (1, 2)]
    records = [
        make_record(n, {"rank": rank, "lr": lr}, seed, 1.0 + rank * lr + seed / 9 + n / 99)
        for n, (rank, lr, seed) in enumerate(points)
    ]
    facts = make_facts(space={}, seeds=[0, 1])
    for some, is_whole in ((records, True), (records[:-1], False)):
        evidence = gather_evidence(facts, group_by_setting(facts, some), "heldout_loss_nats_per_token", None)
        assert evidence is not None
        assert (build_effects_table(facts, evidence) is not None) is is_whole


@pytest.mark.parametrize(("size", "offset"), [(1.0, 0.0), (1e-12, 0.0), (1e9, 0.0), (1e-9, 1.0)])
def test_shares_do_not_depend_on_the_size_of_the_objective(
    make_facts: FactsFactory, make_record: RecordFactory, size: float, offset: float
) -> None:
    """Trees take a variance below 1e-16 for none: the report of such a study was not written."""
    records = [
        make_record(n, {"rank": n % 8, "lr": n // 8}, loss=offset + size * (1.0 + (n % 8) ** 2 + n // 8))
        for n in range(64)
    ]
    shares = measure_importance(make_facts(space={}), records)
    assert [one.name for one in shares] == ["rank", "lr"]
    assert shares[0].fanova[0] > 0.9


def test_trials_that_are_nearly_all_equal_have_no_importance(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    """The one that differs is not among those that a forest sees."""
    records = [make_record(n, {"rank": n % 50, "lr": n // 50}, loss=1.0 + (n == 4)) for n in range(2500)]
    assert measure_importance(make_facts(space={}), records) == []
