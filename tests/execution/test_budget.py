"""What a study may spend: time and tokens, earlier runs included."""

from pathlib import Path

import pytest

from sweeplab.config.study import StudySection
from sweeplab.execution.budget import Budget
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError
from tests.study_runs import ComposeStudy


def record_of(number: int, tokens: int) -> TrialRecord:
    return TrialRecord(number, Status.FINISHED, 0, {}, {}, num_train_tokens=tokens)


def section(compose_study: ComposeStudy, *overrides: str) -> StudySection:
    return compose_study(*overrides).study


def test_without_a_budget_everything_begins(compose_study: ComposeStudy, tmp_path: Path) -> None:
    assert Budget(section(compose_study), tmp_path, [record_of(0, 10**9)]).allows_another()


def test_tokens_of_earlier_and_of_running_trials_count(compose_study: ComposeStudy, tmp_path: Path) -> None:
    budget = Budget(section(compose_study, "study.budget_tokens=350"), tmp_path, [record_of(0, 100)])
    budget.begin(1)
    assert budget.allows_another()
    budget.begin(2)
    assert not budget.allows_another()  # 100 are spent, two more trials of 100 run
    assert budget.why_over == "study.budget_tokens is spent, 300 of 350, and a trial takes 100"
    budget.end(record_of(1, 100))
    budget.end(record_of(2, 20))
    assert budget.allows_another()


def test_a_trial_begins_only_where_one_as_long_as_the_others_ends_in_time(
    compose_study: ComposeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("sweeplab.execution.budget.time.monotonic", lambda: now[0])
    study = section(compose_study, "study.budget=2min")
    budget = Budget(study, tmp_path, [])
    budget.begin(0)
    now[0] += 50
    budget.end(record_of(0, 1))
    assert budget.allows_another()
    now[0] += 21
    assert not budget.allows_another()
    budget.end(record_of(1, 1))
    again = Budget(study, tmp_path, [])  # what earlier runs took counts, what lay between them does not
    assert again.seconds() == pytest.approx(71)
    now[0] += 50
    assert not again.allows_another()
    assert Budget(section(compose_study, "study.budget=1h"), tmp_path, []).allows_another()


def test_a_damaged_file_is_refused(compose_study: ComposeStudy, tmp_path: Path) -> None:
    (tmp_path / "spent.json").write_text('{"seconds": "many"}', encoding="utf-8")
    with pytest.raises(StoreError, match="must hold the seconds that were spent"):
        Budget(section(compose_study, "study.budget=1h"), tmp_path, [])
