"""How long a study still takes, from what its workers have done so far and how long each kind of work took."""

import time
from collections import defaultdict
from typing import Final, NamedTuple

SCORING_BASE: Final = "scoring the base"
MEASURING: Final = "measuring"
TRAINING: Final = "training"
SCORING: Final = "scoring"
_LEAST_TRAINED: Final = 0.02  # of a trial, before anything is said
_LEAST_OF_OPEN: Final = 0.1  # of a scoring that takes longer than the ones before


def format_clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Counts(NamedTuple):
    """The trials of this run."""

    num_left: int  # that have not ended, those not started included
    num_started: int  # begun in this run, those that have ended included
    num_ended: int  # in this run
    trained: float  # trainings done, in trials: each one that has ended counts as one, a running one its share


class Pace:
    """Worker seconds by kind of work. Loading, and the score of the base, come once; training, measuring and scoring
    once a trial."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self.spent: defaultdict[str, float] = defaultdict(float)  # worker seconds of work that is over
        self.now: dict[int, tuple[str, float]] = {}  # by worker: what it does, and since when
        self.scored_until = 0.0  # seconds of scoring when the last trial ended

    def turn(self, worker: int, kind: str | None) -> None:
        """The worker begins another kind of work; None: it has nothing to do."""
        before = self.now.pop(worker, None)
        if before is not None:
            self.spent[before[0]] += time.monotonic() - before[1]
        if kind is not None:
            self.now[worker] = kind, time.monotonic()

    def seconds(self, kind: str) -> float:
        """Worker seconds of a kind so far."""
        running = sum(time.monotonic() - since for which, since in self.now.values() if which == kind)
        return self.spent[kind] + running

    def end_trial(self) -> None:
        """Notes that a trial has ended: what was scored so far belongs to those that have."""
        self.scored_until = self.seconds(SCORING)

    def seconds_left(self, counts: Counts) -> float | None:
        """Seconds to the end of the study; None until something has been trained.

        A trial is scored about as long as the ones before it, and the first one as long as the base.
        """
        if counts.num_left == 0:
            return 0.0
        trained_for = self.seconds(TRAINING)
        if counts.trained < _LEAST_TRAINED or trained_for == 0:
            return None
        training = trained_for / counts.trained * (counts.num_left + counts.num_ended - counts.trained)
        num_unstarted = counts.num_left + counts.num_ended - counts.num_started
        measuring = self.seconds(MEASURING) / counts.num_started * num_unstarted
        each = self.scored_until / counts.num_ended if counts.num_ended else self.seconds(SCORING_BASE)
        underway = self.seconds(SCORING) - self.scored_until
        scoring = max(_LEAST_OF_OPEN * each, each * counts.num_left - underway)
        at_work = self.num_workers if num_unstarted else max(1, len(self.now))
        return (max(0.0, training) + measuring + scoring) / min(at_work, counts.num_left)
