"""What is under way in a study: trials, what workers do, the best so far, the time that may be spent."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sweeplab.records.record import TrialRecord
from sweeplab.report.evidence.formatting import count_noun
from sweeplab.tracking.pace import TRAINING, format_clock

_MOST_NAMED: Final = 3  # trials in a line
_STANDING_SHARE: Final = 0.02  # of the time that finding the best so far may take
_LEAST_STANDING_SECONDS: Final = 2.0  # between two looks for the best


@dataclass
class ShownTrial:
    """A trial that has started and has not ended."""

    label: str
    since: float
    step: int = 0
    num_steps: int | None = None
    loss: float | None = None

    @property
    def fraction(self) -> float:
        """Of its steps."""
        return self.step / self.num_steps if self.num_steps else 0.0


@dataclass
class Work:
    """What a worker does."""

    what: str
    trials: list[int]
    count: str  # such as 'arc_easy 120 of 400'


class Standing:
    """The best so far, found again once trials have ended, and never often enough to slow the study down."""

    def __init__(self, find: Callable[[list[TrialRecord]], list[str]]) -> None:
        self.find = find
        self.lines: list[str] = []
        self.num_ended = -1
        self.due = 0.0

    def look(self, records: Sequence[TrialRecord]) -> list[str]:
        began = time.monotonic()
        if len(records) != self.num_ended and began >= self.due:
            self.num_ended, self.lines = len(records), self.find(list(records))
            took = time.monotonic() - began
            self.due = began + max(_LEAST_STANDING_SECONDS, took / _STANDING_SHARE)
        return self.lines


class TimeLimit(NamedTuple):
    """`study.budget`."""

    most_seconds: float
    count_spent: Callable[[], float]  # seconds of all runs of the study so far


def describe_work(work: Work, trials: Mapping[int, ShownTrial]) -> str:
    """Such as 'training trial 7: rank=8 seed=0, step 40 of 200, loss 2.310'; `trials` by their numbers."""
    running = [trials[number] for number in work.trials if number in trials]
    names = f"{len(work.trials)} trials"
    if len(running) == len(work.trials) == 1:
        names = running[0].label
    elif len(work.trials) <= _MOST_NAMED:
        names = f"trial{'s' if len(work.trials) > 1 else ''} {', '.join(map(str, work.trials))}"
    parts = [f"{work.what} {names}" if work.trials else work.what, work.count]
    if work.what == TRAINING and running and running[0].num_steps:
        steps, losses = [one.step for one in running], [one.loss for one in running if one.loss is not None]
        parts.append(f"step {min(steps)} of {running[0].num_steps}")
        parts += [f"loss {sum(losses) / len(losses):.3f}"] if losses else []
    return ", ".join(filter(None, parts))


def describe_duration(record: TrialRecord, since_start: float) -> str:
    """The trial's own time, without that of trials before it in its cohort; with whom it shared it, where it did."""
    own = sum(phase.seconds for phase in record.phases.values()) or since_start
    num_others = max(0, len(record.cohort) - 1)
    shared = f" with {count_noun(num_others, 'other')}" if num_others else ""
    return f"{format_clock(own)}{shared}"
