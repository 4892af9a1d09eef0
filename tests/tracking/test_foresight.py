"""Before anything trains the time left is that of earlier trials, or of the plan."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sweeplab.records.record import Phase, Status, TrialRecord
from sweeplab.records.store import write_json
from sweeplab.tracking.foresight import foresee_seconds
from sweeplab.tracking.progress import StudyProgress


def trial(number: int, seconds: float, cohort: list[int], status: Status = Status.FINISHED) -> TrialRecord:
    made = TrialRecord(number, status, 0, {"adapter.rank": number}, {})
    return replace(made, phases={"load": Phase(1.0), "train": Phase(seconds - 1.0)}, cohort=cohort)


def test_earlier_trials_say_what_each_takes_and_a_cohort_counts_once(tmp_path: Path) -> None:
    earlier = [trial(0, 30.0, [0, 1]), trial(1, 30.0, [0, 1]), trial(2, 60.0, []), trial(3, 1e6, [], Status.FAILED)]
    assert foresee_seconds(tmp_path, earlier, 4, 2, True) == pytest.approx(90 / 3 * 4 / 2)
    assert foresee_seconds(tmp_path, earlier, 1, 8, True) == pytest.approx(30)


def test_a_plan_of_as_many_trials_stands_for_a_study_without_tasks(tmp_path: Path) -> None:
    assert foresee_seconds(tmp_path, [], 3, 1, False) is None
    write_json(tmp_path / "plan.json", {"num_trials": 3, "study_seconds": 120.0})
    assert foresee_seconds(tmp_path, [], 3, 1, False) == 120.0
    assert foresee_seconds(tmp_path, [], 3, 1, True) is None
    assert foresee_seconds(tmp_path, [], 4, 1, False) is None
    for damaged in ('{"num_trials": 3}', "[1]", "{"):
        (tmp_path / "plan.json").write_text(damaged)
        assert foresee_seconds(tmp_path, [], 3, 1, False) is None


def test_it_is_shown_until_something_was_measured_or_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = StudyProgress(2, 0, Console(), foreseen=100.0)
    assert progress.time_left() == "1:40 left"
    now[0] += 30
    assert progress.time_left() == "1:10 left"
    now[0] += 71
    assert (progress.time_left(), progress.seconds_left()) == ("", None)
