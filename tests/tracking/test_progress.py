"""What a user sees of several trials at once, on a plain stream and with a clock of the test's own."""

import io
import re
import time

import pytest
from rich.console import Console

from sweeplab.records.record import Phase, Status, TrialRecord
from sweeplab.tracking.progress import StudyProgress
from sweeplab.tracking.under_way import TimeLimit


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


def work(progress: StudyProgress) -> list[str]:
    return progress.describe_work()


def test_each_worker_says_what_it_does_and_how_far_it_is(clock: Clock, out: io.StringIO) -> None:
    progress = StudyProgress(10, 2, Console(file=out, width=200), num_workers=2)
    assert work(progress) == ["starting 2 workers"]
    for number in (2, 3, 4):
        progress.started(number, {"adapter.rank": 2**number}, 1)
    progress.doing(0, "loading", [2], "")
    progress.doing(1, "scoring the base", [], "40 of 200 answers of arc_easy")
    assert work(progress) == [
        "worker 0: loading trial 2: rank=4 seed=1",
        "worker 1: scoring the base, 40 of 200 answers of arc_easy",
    ]
    progress.observed(2, 1, {"num_steps": 4, "train_loss": 3.0})
    progress.observed(3, 3, {"num_steps": 4, "train_loss": 2.0})
    progress.doing(0, "training", [2, 3], "", [2, 3])
    progress.doing(1, "scoring", [4], "120 of 400 answers of 2 tasks")
    assert work(progress) == [
        "worker 0: training trials 2, 3, step 2 of 4, loss 2.500",
        "worker 1: scoring trial 4: rank=16 seed=1, 120 of 400 answers of 2 tasks",
    ]
    assert progress.num_under_way() == 2 / 4 + 3 / 4
    progress.rests(1)
    assert len(work(progress)) == 1


def test_many_trials_and_workers_are_counted(clock: Clock, out: io.StringIO) -> None:
    progress = StudyProgress(99, 0, Console(file=out, width=200), num_workers=10)
    for worker in range(10):
        progress.doing(worker, "measuring", list(range(5)), "")
    assert work(progress)[0] == "worker 0: measuring 5 trials"
    assert work(progress)[8:] == ["and 2 workers more"]


def test_a_bar_is_full_once_the_last_trial_has_been_scored(progress: StudyProgress) -> None:
    progress.started(2, {}, 0)
    progress.observed(2, 4, {"num_steps": 4})
    progress.draw()
    assert progress.bars.tasks[progress.trials].completed == pytest.approx(2.9)
    progress.ended(record(2), "")
    progress.draw()
    assert progress.bars.tasks[progress.trials].completed == 3


def test_the_best_so_far_is_found_again_only_when_trials_have_ended_and_not_too_often(
    clock: Clock, out: io.StringIO
) -> None:
    seen: list[int] = []

    def find(records: list[TrialRecord]) -> list[str]:
        seen.append(len(records))
        clock.now += 1  # slow, as with a thousand trials
        return [f"best of {len(records)}"]

    progress = StudyProgress(10, 1, Console(file=out, width=200), earlier=[record(0)], find_standing=find)
    for _ in range(3):
        progress.draw()
    assert seen == [1]
    progress.started(1, {}, 0)
    progress.ended(record(1), "")
    progress.draw()
    assert seen == [1]
    clock.now += 60
    progress.draw()
    assert seen == [1, 2]
    assert progress.standing.lines == ["best of 2"]


def test_the_time_left_is_within_what_a_budget_leaves(progress: StudyProgress, clock: Clock) -> None:
    progress.started(2, {}, 0)
    progress.doing(0, "training", [2], "")
    clock.now += 60
    progress.observed(2, 2, {"num_steps": 4})
    assert progress.time_left() == "15:00 left"  # 7.5 of two minutes
    progress.limit = TimeLimit(600.0, lambda: 60.0)
    assert progress.time_left() == "9:00 left of study.budget, 10% spent"


def test_a_line_has_the_trial_s_own_time_not_that_since_another_started(
    progress: StudyProgress, clock: Clock, out: io.StringIO
) -> None:
    progress.started(2, {"adapter.rank": 1}, 0)
    clock.now += 100
    progress.started(3, {"adapter.rank": 2}, 0)
    clock.now += 20
    progress.ended(record(3), "loss 1.5")
    own = TrialRecord(2, Status.DIVERGED, 0, {}, {}, reason="the loss became nan", cohort=[2, 3, 4])
    own.phases = {"train": Phase(41.0), "profile": Phase(4.0)}
    progress.ended(own, "loss -")
    assert [line.partition(" seed=0")[2].strip() for line in out.getvalue().splitlines()] == [
        "loss 1.5  0:20",
        "diverged: the loss became nan  0:45 with 2 others",
    ]


def test_a_trial_that_starts_again_loses_what_it_had_done(progress: StudyProgress, clock: Clock) -> None:
    progress.started(2, {}, 0)
    progress.started(3, {}, 0)
    progress.observed(2, 2, {"num_steps": 4, "train_loss": 3.0})
    clock.now += 10
    progress.started(2, {}, 0)  # its worker has died
    assert progress.num_under_way() == 0
    assert progress.running[2].since == 1010


def test_values_in_brackets_are_no_markup() -> None:
    out = io.StringIO()
    with StudyProgress(2, 0, Console(file=out, force_terminal=True, width=120)) as progress:
        progress.started(1, {"data.path": "[/data/x]"}, 0)
        progress.doing(0, "training", [1], "")
        progress.live.refresh()
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
        assert out.getvalue() == "10 trials, 2 done, 3 workers\n"


def test_without_a_terminal_a_line_comes_where_none_came_for_long(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeplab.tracking.progress._MOST_QUIET_SECONDS", 0.1)
    with StudyProgress(10, 2, Console(file=out, width=200)) as progress:
        progress.started(2, {"adapter.rank": 4}, 1)
        progress.doing(0, "training", [2], "")
        progress.observed(2, 2, {"num_steps": 4, "train_loss": 3.0})
        limit = time.monotonic() + 200
        while out.getvalue().count("\n") < 3 and time.monotonic() < limit:
            time.sleep(0.01)
    first, *others = out.getvalue().splitlines()
    assert first == "10 trials, 2 done, 1 worker"
    assert len(others) >= 2
    for line in others:
        assert re.fullmatch(r"\[2/10\] training trial 2: rank=4 seed=1, step 2 of 4, loss 3\.000; \d+:\d\d left", line)


def test_a_terminal_has_bars_and_no_such_lines(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeplab.tracking.progress._MOST_QUIET_SECONDS", 0.01)
    with StudyProgress(10, 2, Console(file=out, width=200, force_terminal=True)):
        time.sleep(0.1)
    assert "workers" not in out.getvalue()
    assert "[2/10]" not in out.getvalue()


def test_a_finished_study_says_so(clock: Clock, out: io.StringIO) -> None:
    with StudyProgress(2, 2, Console(file=out, width=200)):
        pass
    assert out.getvalue() == "All 2 trials ended before; nothing is left to train.\n"


def test_no_line_of_a_narrow_terminal_is_wider_than_it(clock: Clock) -> None:
    out = io.StringIO()
    with StudyProgress(10, 0, Console(file=out, force_terminal=True, width=40)) as progress:
        progress.started(1, {"adapter.rank": 8, "optimizer.lr": 0.001, "optimizer.weight_decay": 0.5}, 0)
        progress.doing(0, "training", [1], "")
        console = Console(width=40, record=True, file=io.StringIO())
        console.print(progress.draw())
    lines = console.export_text().splitlines()
    assert lines[1].startswith("training trial 1: rank=8")
    assert all(len(line) <= 40 for line in lines)


def test_a_race_within_a_budget_says_what_is_left_of_it(clock: Clock, out: io.StringIO) -> None:
    limit = TimeLimit(600.0, lambda: 60.0 + clock.now - 1000.0)  # of which an earlier run took a minute
    progress = StudyProgress(550, 2, Console(file=out, width=200), may_end_early=True, limit=limit)
    with progress:
        progress.started(2, {"adapter.rank": 4}, 0)
        clock.now += 30
        progress.ended(record(2), "held-out loss 1")
    lines = out.getvalue().splitlines()
    assert lines[0] == "as many trials as it needs, 1:00 of 10:00 spent, 2 done, 1 worker"
    assert lines[1] == "[3] trial 2: rank=4 seed=0  held-out loss 1  0:30  8:30 left of study.budget, 15% spent"
    assert progress.seconds_left() == pytest.approx(510)


def test_the_trials_of_a_study_may_end_before_its_budget(clock: Clock, out: io.StringIO) -> None:
    progress = StudyProgress(4, 0, Console(file=out, width=200), limit=TimeLimit(600.0, lambda: clock.now - 1000.0))
    progress.started(0, {}, 0)
    progress.doing(0, "training", [0], "")
    clock.now += 30
    progress.ended(record(0), "")
    assert progress.time_left() == "1:30 left, 5% of study.budget spent"
    clock.now += 560
    assert progress.time_left() == "0:10 left of study.budget, 98% spent"
