"""What a study may spend: time and tokens, earlier runs included."""

from pathlib import Path

import pytest

from sweeplab.config.study import StudySection
from sweeplab.execution.budget import Budget, TrialCost
from sweeplab.records.record import Phase, Status, TrialRecord
from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import ConfigError
from tests.study_runs import ComposeStudy


def record_of(number: int, tokens: int, seconds: float = 0.0) -> TrialRecord:
    phases = {"train": Phase(seconds, None, None, None)} if seconds else {}
    return TrialRecord(number, Status.FINISHED, 0, {}, {}, num_train_tokens=tokens, phases=phases)


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


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr("sweeplab.execution.budget.time.monotonic", lambda: clock[0])
    return clock


def test_a_trial_begins_only_where_one_as_long_as_the_others_ends_in_time(
    compose_study: ComposeStudy, tmp_path: Path, now: list[float]
) -> None:
    study = section(compose_study, "study.budget=2min")
    budget = Budget(study, tmp_path, [])
    budget.begin(0)
    now[0] += 50
    first = record_of(0, 1, seconds=50)
    budget.end(first)
    assert budget.allows_another()
    now[0] += 21
    assert not budget.allows_another()
    assert budget.why_over == "study.budget is spent, 71 of 120 s, and a trial takes 50 s"
    budget.end(record_of(1, 1))
    again = Budget(study, tmp_path, [first])  # what earlier runs took counts, what lay between them does not
    assert again.seconds() == pytest.approx(71)
    assert not again.allows_another()  # as long as the trial of the earlier run
    assert Budget(section(compose_study, "study.budget=1h"), tmp_path, []).allows_another()


def test_trials_that_wait_need_their_time_too(compose_study: ComposeStudy, tmp_path: Path, now: list[float]) -> None:
    budget = Budget(section(compose_study, "study.budget=1min"), tmp_path, [], num_workers=2)
    assert budget.lacks_forecast
    budget.note_forecast(TrialCost(10.0, None))
    asked = 0
    while budget.allows_another():
        budget.begin(asked)
        asked += 1
    assert asked == 12  # two workers, six trials each
    now[0] += 10
    for number in range(4):  # two at once on each worker: they are twice as fast as forecast
        budget.end(record_of(number, 1, seconds=10.0))
    while budget.allows_another():
        budget.begin(asked)
        asked += 1
    assert asked == 24  # four in ten seconds


@pytest.mark.parametrize(
    ("override", "cost", "words"),
    [
        ("study.budget=1min", TrialCost(61.0, 5.0), "study.budget must last for a trial, which will take 61 s"),
        (
            "study.budget_tokens=1e4",
            TrialCost(None, 10_001.0),
            "study.budget_tokens must last for a trial",
        ),
    ],
)
def test_a_budget_too_small_for_one_trial_is_refused(
    compose_study: ComposeStudy, tmp_path: Path, override: str, cost: TrialCost, words: str
) -> None:
    budget = Budget(section(compose_study, override), tmp_path, [])
    budget.note_forecast(TrialCost(None, None))
    with pytest.raises(ConfigError, match=words):
        budget.note_forecast(cost)


def test_what_was_measured_needs_no_forecast(compose_study: ComposeStudy, tmp_path: Path) -> None:
    budgeted = section(compose_study, "study.budget_tokens=350")
    assert not Budget(budgeted, tmp_path, [record_of(0, 100)]).lacks_forecast
    assert not Budget(section(compose_study), tmp_path, []).lacks_forecast


def test_a_damaged_file_is_refused(compose_study: ComposeStudy, tmp_path: Path) -> None:
    (tmp_path / "spent.json").write_text('{"seconds": "many"}', encoding="utf-8")
    with pytest.raises(StoreError, match="must hold the seconds that were spent"):
        Budget(section(compose_study, "study.budget=1h"), tmp_path, [])
