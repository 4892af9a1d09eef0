"""What a user sees of several trials at once, on a plain stream and with a clock of the test's own."""

import io
import re
import time

import pytest
from rich.console import Console

from sweeplab.records.record import Status, TrialRecord
from sweeplab.tracking.progress import StudyProgress, TimeLimit


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(clock: Clock, out: io.StringIO) -> StudyProgress:
    """Of a study of ten trials, two of which an earlier run has done."""
    return StudyProgress(10, 2, Console(file=out, width=200))


def record(number: int, status: Status = Status.FINISHED, reason: str | None = None) -> TrialRecord:
    return TrialRecord(number, status, 0, {}, {}, reason=reason)


def bar(progress: StudyProgress) -> str:
    return str(progress.bars.tasks[progress.steps].description)


def test_one_running_trial_is_named_and_several_are_counted(progress: StudyProgress) -> None:
    progress.started(2, {"adapter.rank": 4}, 1)
    assert bar(progress) == "trial 2: rank=4 seed=1, loading"
    progress.started(3, {}, 0)
    assert bar(progress) == "2 at once, loading"
    progress.observed(2, 1, {"num_steps": 4, "train_loss": 3.0})
    assert bar(progress) == "2 at once, loss 3.000"
    progress.observed(3, 3, {"num_steps": 4, "train_loss": 2.0})
    assert bar(progress) == "2 at once, loss 2.500"
    assert progress.bars.tasks[progress.steps].completed == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert progress.bars.tasks[progress.trials].completed == pytest.approx(2 + 1 / 4 + 3 / 4)
    for number in (2, 3):
        progress.observed(number, 4, {"num_steps": 4, "heldout_loss": 9.0})  # no training loss: the last one stays
    assert bar(progress) == "2 at once, evaluating, loss 2.500"


def test_the_time_left_counts_what_running_trials_have_done(progress: StudyProgress, clock: Clock) -> None:
    for number in (2, 3, 4, 5):
        progress.started(number, {}, 0)
    assert progress.time_left() == ""
    clock.now += 60
    for number in (2, 3, 4, 5):
        progress.observed(number, 2, {"num_steps": 8})
    # 4 quarters of a trial took a minute; 8 - 1 trials are left
    assert progress.time_left() == "7:00 left"
    progress.observed(5, 8, {"num_steps": 8})
    clock.now += 45
    progress.ended(record(5), "")
    # 1.75 trials in 105 seconds: a minute each; 7 - 0.75 are left
    assert progress.time_left() == "6:15 left"


def test_a_line_has_the_trial_s_own_time_not_that_since_another_started(
    progress: StudyProgress, clock: Clock, out: io.StringIO
) -> None:
    progress.started(2, {"adapter.rank": 1}, 0)
    clock.now += 100
    progress.started(3, {"adapter.rank": 2}, 0)
    clock.now += 20
    progress.ended(record(3), "loss 1.5")
    progress.ended(record(2, Status.DIVERGED, "the loss became nan"), "loss -")
    assert out.getvalue().splitlines() == [
        "[3/10] trial 3: rank=2 seed=0  loss 1.5  0:20  14:00 left",
        "[4/10] trial 2: rank=1 seed=0  diverged: the loss became nan  2:00  6:00 left",
    ]


def test_a_trial_that_starts_again_loses_what_it_had_done(progress: StudyProgress, clock: Clock) -> None:
    progress.started(2, {}, 0)
    progress.started(3, {}, 0)
    progress.observed(2, 2, {"num_steps": 4, "train_loss": 3.0})
    clock.now += 10
    progress.started(2, {}, 0)  # its worker has died
    assert bar(progress) == "2 at once, loading"
    assert progress.num_under_way() == 0
    assert progress.running[2].since == 1010


def test_values_in_brackets_are_no_markup() -> None:
    out = io.StringIO()
    with StudyProgress(2, 0, Console(file=out, force_terminal=True, width=120)) as progress:
        progress.started(1, {"data.path": "[/data/x]"}, 0)
        progress.bars.refresh()
    assert "path=[/data/x]" in out.getvalue()


def test_what_a_worker_says_is_one_line_with_its_brackets(progress: StudyProgress, out: io.StringIO) -> None:
    progress.say("4 trials at once: [bold] out of memory; going on with 2 at a time")
    assert out.getvalue() == "4 trials at once: [bold] out of memory; going on with 2 at a time\n"


def test_what_several_workers_say_alike_is_said_once(progress: StudyProgress, out: io.StringIO) -> None:
    for text in ("Skipped 2 records.", "Skipped 2 records.", "another", "Skipped 2 records."):
        progress.say_once(text)
    assert out.getvalue() == "Skipped 2 records.\nanother\n"


def test_without_a_terminal_it_begins_with_what_is_planned(clock: Clock, out: io.StringIO) -> None:
    with StudyProgress(10, 2, Console(file=out, width=200), num_workers=3):
        assert out.getvalue() == "10 trials, 2 done, 3 workers, loading\n"


def test_without_a_terminal_a_line_comes_where_none_came_for_long(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeplab.tracking.progress._MOST_QUIET_SECONDS", 0.1)
    with StudyProgress(10, 2, Console(file=out, width=200)) as progress:
        progress.started(2, {"adapter.rank": 4}, 1)
        progress.observed(2, 2, {"num_steps": 4, "train_loss": 3.0})
        limit = time.monotonic() + 200
        while out.getvalue().count("\n") < 3 and time.monotonic() < limit:
            time.sleep(0.01)
    first, *others = out.getvalue().splitlines()
    assert first == "10 trials, 2 done, 1 worker, loading"
    assert len(others) >= 2
    for line in others:
        assert re.fullmatch(r"\[2/10\] trial 2: rank=4 seed=1, loss 3\.000  \d+:\d\d left", line)


def test_a_terminal_has_bars_and_no_such_lines(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeplab.tracking.progress._MOST_QUIET_SECONDS", 0.01)
    with StudyProgress(10, 2, Console(file=out, width=200, force_terminal=True)):
        time.sleep(0.1)
    assert "workers" not in out.getvalue()
    assert "[2/10]" not in out.getvalue()


def test_a_race_within_a_budget_says_what_is_left_of_it(clock: Clock, out: io.StringIO) -> None:
    limit = TimeLimit(600.0, lambda: 60.0 + clock.now - 1000.0)  # of which an earlier run took a minute
    progress = StudyProgress(550, 2, Console(file=out, width=200), may_end_early=True, limit=limit)
    with progress:
        progress.started(2, {"adapter.rank": 4}, 0)
        clock.now += 30
        progress.ended(record(2), "held-out loss 1")
    lines = out.getvalue().splitlines()
    assert lines[0] == "as many trials as it needs, 1:00 of 10:00 spent, 2 done, 1 worker, loading"
    assert lines[1] == "[3] trial 2: rank=4 seed=0  held-out loss 1  0:30  8:30 left of study.budget"
    assert progress.seconds_left() == pytest.approx(510)


def test_the_trials_of_a_study_may_end_before_its_budget(clock: Clock, out: io.StringIO) -> None:
    progress = StudyProgress(4, 0, Console(file=out, width=200), limit=TimeLimit(600.0, lambda: clock.now - 1000.0))
    progress.started(0, {}, 0)
    clock.now += 30
    progress.ended(record(0), "")
    assert progress.time_left() == "1:30 left"
    clock.now += 560
    assert progress.time_left() == "0:10 left of study.budget"
