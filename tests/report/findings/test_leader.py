"""Who leads, who may be as good, and in which order settings stand."""

from collections.abc import Callable

import pytest

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.leader import find_cheapest, find_standing, rank_settings
from sweeplab.report.findings.settings_table import build_settings_table

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


def made(make_record: RecordFactory, rows: list[tuple[int, list[float]]]) -> list[TrialRecord]:
    """Trials of (rank, the losses with seeds 0, 1, ...)."""
    pairs = [(rank, seed, loss) for rank, losses in rows for seed, loss in enumerate(losses)]
    return [make_record(n, {"adapter.rank": rank}, seed, loss) for n, (rank, seed, loss) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("rows", "is_recommended", "is_alone", "tied"),
    [
        ([(4, [1.0, 1.01]), (8, [2.0, 2.03]), (16, [3.0, 3.01])], True, True, []),
        ([(4, [1.0, 1.01]), (8, [1.001, 1.012]), (16, [3.0, 3.03])], True, False, [8]),
        ([(4, [1.0, 1.1]), (8, [1.1, 1.0]), (16, [1.05, 1.06])], False, False, [8, 16]),
        ([(4, [1.0]), (8, [2.0])], False, False, [8]),  # one seed decides nothing
    ],
)
def test_a_tie_has_no_best(
    make_facts: FactsFactory,
    make_record: RecordFactory,
    rows: list[tuple[int, list[float]]],
    is_recommended: bool,
    is_alone: bool,
    tied: list[int],
) -> None:
    facts, records = make_facts(seeds=[0, 1]), made(make_record, rows)
    settings = group_by_setting(facts, records)
    standing = find_standing(facts, settings)
    assert standing is not None
    assert (standing.is_recommended, standing.is_alone) == (is_recommended, is_alone)
    assert sorted(one.params["adapter.rank"] for one in standing.tied) == tied or not is_recommended
    table = build_settings_table(facts, settings)
    assert (table.marked == 0) == is_alone
    assert len(table.tied) == (1 + len(tied) if is_recommended and tied else 0)


def test_the_best_stands_first_and_what_has_no_value_last(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = made(make_record, [(4, [3.0, 3.1]), (8, [1.0, 1.1]), (16, [2.0, 2.1])])
    records.insert(0, make_record(9, {"adapter.rank": 2}, 0, None))
    facts = make_facts(seeds=[0, 1])
    ranked = rank_settings(facts, group_by_setting(facts, records), None)
    assert [one.params["adapter.rank"] for one in ranked] == [8, 16, 4, 2]
    bounded = make_facts(seeds=[0, 1], constraints={"adapter_bytes": {"max": 10.0}})
    for record in records:
        record.adapter_bytes = 100 if record.params["adapter.rank"] == 8 else 1
    ranked = rank_settings(bounded, group_by_setting(bounded, records), None)
    assert [one.params["adapter.rank"] for one in ranked][:3] == [16, 4, 8]  # 8 is beyond the constraint


def test_the_cheapest_trains_the_fewest_parameters(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = made(make_record, [(4, [1.0]), (8, [1.0])])
    settings = group_by_setting(make_facts(), records)
    assert find_cheapest(settings) is None  # as many
    for record in records:
        record.num_trainable_params = 10 * record.params["adapter.rank"]
    found = find_cheapest(group_by_setting(make_facts(), records))
    assert found is not None
    assert found.params == {"adapter.rank": 4}
