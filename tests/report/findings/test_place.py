"""Why a setting leads, where another one has a better mean."""

from collections.abc import Callable

import pytest

from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.answer import state_answer
from sweeplab.report.findings.comparison import build_comparison_table, describe_power
from sweeplab.report.findings.leader import Standing, find_standing

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]
Runs = dict[int, list[float | None]]  # losses by rank and seed; None: the run diverged


@pytest.fixture
def stand(make_facts: FactsFactory, make_record: RecordFactory) -> Callable[[Runs], tuple[str, Standing]]:
    def make(runs: Runs) -> tuple[str, Standing]:
        records = [
            make_record(
                10 * rank + seed,
                {"adapter.rank": rank},
                seed,
                loss,
                status=Status.DIVERGED if loss is None else Status.FINISHED,
            )
            for rank, losses in runs.items()
            for seed, loss in enumerate(losses)
        ]
        facts = make_facts(space={"adapter.rank": {"choices": list(runs)}}, seeds=[0, 1, 2])
        settings = group_by_setting(facts, records)
        standing = find_standing(facts, settings)
        assert standing is not None
        return state_answer(facts, settings).first, standing

    return make


def test_lost_runs_are_the_reason_only_where_they_turn_the_order(
    stand: Callable[[Runs], tuple[str, Standing]],
) -> None:
    turned, _ = stand({1: [1.5, 1.52, 1.48], 2: [1.45, None, None], 4: [3.0, 3.1, 2.9]})
    assert "rank=1" in turned
    assert "with runs that did not finish counted as the worst value seen" in turned
    kept, _ = stand({1: [2.0, 2.02, 1.98], 2: [1.0, 1.02, None], 4: [2.1, 2.12, 2.08]})
    assert "leads by held-out loss, 2.000 nats/target" in kept
    assert "of the settings whose every run finished" in kept
    assert "counted as the worst value seen;" not in kept


def test_a_setting_that_is_surely_better_though_it_lost_a_run_is_named(
    stand: Callable[[Runs], tuple[str, Standing]],
) -> None:
    """It is not called the best; that the leader may be as good as it would contradict the table."""
    said, _ = stand({1: [2.0, 2.01, 1.99, 2.0], 2: [1.0, 1.01, 0.99, 1.0, 1.0, None], 4: [2.01, 2.0, 2.02, 2.01]})
    assert said.startswith("No winner. rank=1 ")
    assert "rank=2 (lost 1 of 6 runs) would be better with lost runs counted as the worst value seen, too." in said
    unsure, _ = stand({1: [2.0, 2.01, 1.99], 2: [1.99, 1.98, None], 4: [2.0, 2.02, 2.01]})
    assert "would be better" not in unsure


def test_one_seed_of_a_better_setting_is_said_to_be_the_reason(
    stand: Callable[[Runs], tuple[str, Standing]],
) -> None:
    said, _ = stand({1: [2.0, 2.02, 1.98], 2: [1.0], 4: [2.1, 2.12, 2.08]})
    assert "rank=1: it leads by held-out loss, 2.000 nats/target" in said
    assert "of the settings with more than one seed" in said


@pytest.mark.parametrize(
    ("runs", "like"),
    [({1: [1.0], 2: [1.0], 4: [2.0]}, "rank=2"), ({n: [1.0 + (n == 9)] for n in range(10)}, "8 others")],
)
def test_settings_that_lead_together_are_said_to(
    stand: Callable[[Runs], tuple[str, Standing]], runs: Runs, like: str
) -> None:
    said, _ = stand(runs)
    assert f"has, like {like}, the lowest held-out loss, 1.000" in said


def test_seeds_needed_are_not_told_of_a_pair_that_shares_no_two_seeds(
    stand: Callable[[Runs], tuple[str, Standing]],
) -> None:
    """Two seeds were "needed": the spread of a difference that is not known was taken for zero."""
    _, standing = stand({1: [1.0, 1.1, 1.05], 2: [2.0], 4: [1.5, 1.6, 1.5]})
    assert standing.compared is not None
    table = build_comparison_table(standing.evidence, standing.compared)
    needed = {row[0].text: row[-1].text for row in table.rows}
    assert needed["rank=2"] == "\N{EN DASH}"
    assert needed["rank=4"].isdigit()


def test_any_two_settings_need_a_difference_at_least_as_large_as_two_named_ones(
    stand: Callable[[Runs], tuple[str, Standing]],
) -> None:
    """The level is that of the seeds that both have, not of the most that any setting has."""
    _, standing = stand({1: [1.0, 1.01, 1.02], 2: [1.2, 1.21], 4: [1.3, 1.32]})
    assert standing.compared is not None
    said = describe_power(standing.evidence, standing.compared)[0]
    assert said.startswith("With 2 seeds in common a true difference of ")
    of_two, of_any = (
        float(part.split(" nats")[0]) for part in (said.split("difference of ")[1], said.split("and of ")[1])
    )
    assert of_any >= of_two


def test_no_difference_is_told_that_cannot_be(stand: Callable[[Runs], tuple[str, Standing]]) -> None:
    _, standing = stand({1: [1.0, 0.1], 2: [0.2, 1.5], 4: [0.9, 0.05]})
    assert standing.compared is not None
    said = describe_power(standing.evidence, standing.compared)[0]
    assert said.startswith("With 2 seeds not even a true difference of 0.850 nats/target between two settings named")
