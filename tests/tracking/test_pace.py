"""The time left of studies whose course is known, with a clock of the test's own."""

import time

import pytest

from sweeplab.tracking.pace import MEASURING, SCORING, SCORING_BASE, TRAINING, Counts, Pace, format_clock


class Clock:
    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


def walk(
    clock: Clock, num_workers: int, num_trials: int, steps: int, train: float, score: float
) -> list[tuple[float, float]]:
    """Trials one after another on each worker: (seconds that have passed, seconds said to be left) at every step.

    Starting takes 30 s, the base is scored for as long as a trial.
    """
    pace, ended, looks = Pace(num_workers), 0, list[tuple[float, float]]()
    clock.now = 30.0
    for worker in range(num_workers):
        pace.turn(worker, MEASURING if worker else SCORING_BASE)
    clock.now += score
    for _ in range(num_trials // num_workers):
        started = ended + num_workers
        for worker in range(num_workers):
            pace.turn(worker, TRAINING)
        for step in range(1, steps + 1):
            clock.now += train / steps
            trained = ended + num_workers * step / steps
            left = pace.seconds_left(Counts(num_trials - ended, started, ended, trained))
            looks += [] if left is None else [(clock.now, left)]
        for worker in range(num_workers):
            pace.turn(worker, SCORING)
        for part in range(4):
            clock.now += score / 4
            left = pace.seconds_left(Counts(num_trials - ended, started, ended, started))
            looks += [(clock.now, left)] if left is not None and part < 3 else []
        for worker in range(num_workers):
            ended += 1
            pace.turn(worker, None)
            pace.end_trial()
    return looks


@pytest.mark.parametrize(
    ("num_workers", "num_trials", "train", "score"), [(1, 6, 100.0, 20.0), (1, 2, 50.0, 200.0), (2, 12, 60.0, 20.0)]
)
def test_what_is_said_after_a_tenth_holds_within_thirty_percent(
    clock: Clock, num_workers: int, num_trials: int, train: float, score: float
) -> None:
    looks, whole = walk(clock, num_workers, num_trials, 20, train, score), clock.now
    later = [(now, left) for now, left in looks if whole / 10 <= now <= whole * 0.95]
    assert later
    for now, left in later:
        assert left == pytest.approx(whole - now, rel=0.3, abs=0.02 * whole)


def test_nothing_is_said_before_anything_is_trained(clock: Clock) -> None:
    pace = Pace(1)
    pace.turn(0, "loading")
    clock.now += 500
    assert pace.seconds_left(Counts(5, 1, 0, 0.0)) is None


def test_the_last_trials_on_one_worker_do_not_count_the_others(clock: Clock) -> None:
    pace = Pace(8)
    pace.turn(0, TRAINING)
    clock.now += 60
    assert pace.seconds_left(Counts(4, 4, 0, 2.0)) == pytest.approx(60)


def test_a_study_without_anything_left_takes_no_time(clock: Clock) -> None:
    assert Pace(2).seconds_left(Counts(0, 0, 0, 0.0)) == 0


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text
