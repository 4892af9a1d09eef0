"""The answer's first sentence in ties, after failures, and with numbers that a screen has no room for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sweeplab.records.record import Score, Status, StudyFacts, TrialRecord
from sweeplab.report.evidence.formatting import format_ends, format_number
from sweeplab.report.evidence.settings import LOSS, group_by_setting
from sweeplab.report.findings.answer import state_answer
from sweeplab.report.findings.next_steps import list_next_steps

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]
ACCURACY = {"scores.t.acc": "maximize"}


def answer(make_facts: FactsFactory, records: list[TrialRecord], **others: Any) -> tuple[str, list[str]]:
    """The first sentence, and what the study proposes to type next."""
    seeds = sorted({record.seed for record in records})
    facts = make_facts(seeds=seeds, space={"adapter.rank": {"choices": [1, 2, 4]}}, **others)
    settings = group_by_setting(facts, records)
    stated = state_answer(facts, settings)
    assert all("end of what was tried" not in note for note in stated.notes)
    return stated.first, [step.advice for step in list_next_steps(facts, settings, None)]


def measure(make_record: RecordFactory, by_rank: dict[int, list[float]]) -> list[TrialRecord]:
    cells = [(rank, seed, value) for rank, values in by_rank.items() for seed, value in enumerate(values)]
    return [
        make_record(number, {"adapter.rank": rank}, seed, value, {"t": {"acc": Score(value, 0.05, 20)}})
        for number, (rank, seed, value) in enumerate(cells)
    ]


@pytest.mark.parametrize(
    ("by_rank", "objectives", "first"),
    [
        (
            {1: [0.0, 0.0], 2: [0.0, 0.0], 4: [0.0, 0.0]},
            ACCURACY,
            "No winner: all 3 settings have the same acc on t, 0.000.",
        ),
        (
            {1: [0.5, 0.6], 2: [0.6, 0.5], 4: [0.55, 0.55]},
            ACCURACY,
            "No winner: all 3 settings have the same acc on t, 0.550.",
        ),
        ({1: [2.0, 2.1], 2: [2.0, 2.1]}, {LOSS: "minimize"}, "No winner: both settings have the same held-out loss, "),
        ({1: [0.5], 2: [0.5]}, ACCURACY, "With one seed both settings have the same acc on t, 0.500; another seed may"),
    ],
)
def test_settings_that_are_equal_have_no_best(
    make_facts: FactsFactory,
    make_record: RecordFactory,
    by_rank: dict[int, list[float]],
    objectives: dict[str, str],
    first: str,
) -> None:
    said, steps = answer(make_facts, measure(make_record, by_rank), objectives=objectives)
    assert said.startswith(first)
    assert not any(step.startswith("try ") for step in steps)


def test_where_two_values_lead_nothing_leads_to_an_end(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = measure(make_record, {1: [1.0, 1.0], 2: [1.0, 1.0], 4: [0.0, 0.0]})
    said, steps = answer(make_facts, records, objectives=ACCURACY)
    assert said.startswith("Use rank=1: it has, like rank=2, the highest acc on t, 1.000")
    assert "rank=2 may be as good" in said
    assert not any(step.startswith("try ") for step in steps)


def test_a_setting_whose_runs_failed_is_not_said_to_be_better_than_the_best(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = measure(make_record, {1: [2.0, 2.1, 2.05], 2: [1.0, 1.1, 1.05]})
    records[3] = replace(records[3], status=Status.DIVERGED, heldout_loss_nats_per_token=None)
    said, _ = answer(make_facts, records)
    assert (
        "rank=1 leads by held-out loss, 2.050 nats/target, against 1.075 nats/target of the other in the 2 of its 3 "
        "runs that finished, of the settings whose every run finished."
    ) in said
    assert "rank=2 (lost 1 of 3 runs) would be better with lost runs counted as the worst value seen, too" not in said


def test_a_setting_that_alone_finished_is_not_the_only_one_that_was_run(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = measure(make_record, {1: [2.0, 2.1], 2: [1.0, 1.1]})
    records[:2] = [replace(one, status=Status.DIVERGED, heldout_loss_nats_per_token=None) for one in records[:2]]
    assert answer(make_facts, records)[0] == "Only rank=2 has a value of held-out loss: 1.050 nats/target."


def test_numbers_of_many_digits_have_a_power_of_ten() -> None:
    assert (format_number(372_944_399_384_497_920.0), format_number(999_999_999.0)) == ("3.73e+17", "999,999,999")
    assert format_ends(LOSS, 0.0, 2.5e27) == "[0, 2.5e+27]"


def test_settings_without_a_value_are_not_called_worse(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = measure(make_record, {1: [2.0, 2.1], 2: [1.0, 1.05], 4: [0.5, 0.53]})
    assert answer_first(make_facts, records).endswith("and every other setting is worse.")
    lost = [replace(one, status=Status.OUT_OF_MEMORY, heldout_loss_nats_per_token=None) for one in records[:2]]
    assert answer_first(make_facts, [*lost, *records[2:]]).endswith("and every other ranked setting is worse.")


def answer_first(make_facts: FactsFactory, records: list[TrialRecord]) -> str:
    facts = make_facts(seeds=[0, 1], space={"adapter.rank": {"choices": [1, 2, 4]}})
    return state_answer(facts, group_by_setting(facts, records)).first
