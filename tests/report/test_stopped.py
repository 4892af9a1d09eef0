"""A trial that a person stopped counts neither for nor against its setting, and is said; an added seed is no gap."""

from collections.abc import Callable

import numpy as np
import pytest

from sweeplab.records.record import RaceGoal, Status, StudyFacts, TrialRecord
from sweeplab.report.evidence.estimates import Evidence, gather_evidence
from sweeplab.report.evidence.race import follow_course
from sweeplab.report.evidence.settings import LOSS, group_by_setting
from sweeplab.report.findings.answer import state_answer
from sweeplab.report.findings.answer_file import build_answer

Make = Callable[..., TrialRecord]
Facts = Callable[..., StudyFacts]
VALUES = {(4, 0): 2.0, (8, 0): 1.0, (4, 1): 2.2, (8, 1): 1.1, (4, 2): 2.1, (8, 2): 1.05}


def records_of(make: Make, without: tuple[int, int], status: Status | None) -> list[TrialRecord]:
    """Every trial, of which one ended with `status`, or is not there."""
    made = []
    for number, (point, loss) in enumerate(VALUES.items()):
        params, seed = {"adapter.rank": point[0]}, point[1]
        if point != without:
            made.append(make(number, params, seed, loss))
        elif status is not None:
            made.append(make(number, params, seed, None, status=status, reason="by hand after 7 of 40 steps"))
    return made


def evidence_of(facts: StudyFacts, records: list[TrialRecord]) -> Evidence:
    found = gather_evidence(facts, group_by_setting(facts, records), LOSS, None)
    assert found is not None
    return found


@pytest.fixture
def facts(make_facts: Facts) -> StudyFacts:
    return make_facts(seeds=[0, 1, 2], space={"adapter.rank": {"choices": [4, 8]}}, num_planned=6)


def test_a_stopped_trial_is_missing_and_a_failed_one_is_the_worst(facts: StudyFacts, make_record: Make) -> None:
    absent, stopped, failed = (
        evidence_of(facts, records_of(make_record, (8, 1), status)) for status in (None, Status.STOPPED, Status.FAILED)
    )
    assert np.array_equal(stopped.table.values_KS, absent.table.values_KS, equal_nan=True)
    assert (stopped.estimates, stopped.lacking, stopped.num_worst) == (absent.estimates, [[], [1]], [0, 0])
    assert stopped.best.params == {"adapter.rank": 8}
    assert failed.table.values_KS[1, 1] == 2.2
    assert failed.num_worst == [0, 1]


def test_it_is_counted_and_said(facts: StudyFacts, make_record: Make) -> None:
    settings = group_by_setting(facts, records_of(make_record, (8, 1), Status.STOPPED))
    stated = state_answer(facts, settings)
    tally = "5 of 6 started trials finished (6 planned). 1 trial stopped by hand, counted neither for nor against their"
    assert any(note.startswith(tally) for note in stated.notes)
    (dropped,) = (one for one in build_answer(facts, settings, stated).dropped if one.outcome == "stopped")
    assert (dropped.trials, dropped.params) == ([3], {"adapter.rank": 8})
    assert (settings[1].counts, settings[1].left_out) == ("2/3", ", 1 stopped by hand")


def test_a_seed_that_one_setting_has_more_is_not_missing_in_the_others(facts: StudyFacts, make_record: Make) -> None:
    records = [*records_of(make_record, (0, 0), None), make_record(6, {"adapter.rank": 8}, 7, 1.2)]
    found = evidence_of(facts, records)
    assert found.lacking == [[], []]
    assert found.table.counts_K.tolist() == [3, 4]


def test_a_race_goes_on_without_the_setting(facts: StudyFacts, make_record: Make) -> None:
    facts.race = RaceGoal(0.5, 0.95)
    course = follow_course(facts, records_of(make_record, (4, 0), Status.STOPPED)[:2])
    assert course.runs == []  # nothing is left to race against, and nobody waits for the stopped one
    assert course.is_over
    settings = group_by_setting(facts, records_of(make_record, (4, 0), Status.STOPPED)[:2])
    assert any(
        "1 trial stopped by hand, out of the race since." in note for note in state_answer(facts, settings).notes
    )
