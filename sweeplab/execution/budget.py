"""What a study may spend, `study.budget` and `study.budget_tokens`: after that no further trial begins."""

import statistics
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from sweeplab.config.sizes import num_seconds
from sweeplab.config.study import StudySection
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import StoreError, read_json, write_json
from sweeplab.records.stored import is_number
from sweeplab.runtime.errors import refuse

_FILE: Final = "spent.json"  # seconds of all runs of the study so far
_MEND: Final = "give more, or make trials shorter with training.max_steps"


class TrialCost(NamedTuple):
    """What a trial will take; None where that is not known."""

    seconds: float | None  # of training and its held-out losses, on a machine that does nothing else
    tokens: float | None


class Budget:
    """Time and tokens of a study, those of earlier runs included. A trial is asked for only where one as long as the
    others fits into what is left, beside those that run or wait; it then trains to its end."""

    def __init__(self, study: StudySection, folder: Path, records: list[TrialRecord], num_workers: int = 1) -> None:
        """Raises `StoreError` where what earlier runs spent cannot be read."""
        self.folder = folder
        self.num_workers = num_workers
        self.most_seconds = None if study.budget is None else num_seconds("study.budget", study.budget)
        self.most_tokens = study.budget_tokens
        self.earlier_seconds = _read_spent(folder)
        self.since = time.monotonic()
        self.tokens = [record.num_train_tokens for record in records if record.num_train_tokens]
        self.durations = [seconds for record in records if (seconds := _sum_phases(record)) > 0]
        self.asked: set[int] = set()  # numbers of the trials that run or wait
        self.num_ended_now = 0
        self.why_over: str | None = None  # what is spent, once a trial could not begin for it
        self.lacks_forecast = (study.budget is not None or study.budget_tokens is not None) and not records
        self._forecast = TrialCost(None, None)

    def seconds(self) -> float:
        """Wall seconds of all runs so far."""
        return self.earlier_seconds + time.monotonic() - self.since

    def note_forecast(self, cost: TrialCost) -> None:
        """Notes what the first trial will take. Raises `ConfigError` where the budget does not last for one."""
        self._forecast = cost
        if self.most_seconds is not None and cost.seconds is not None:
            left = max(0.0, self.most_seconds - self.seconds())
            if cost.seconds > left:
                rule = f"must last for a trial, which will take {cost.seconds:.0f} s or more here"
                raise refuse("study.budget", rule, f"{self.most_seconds:.0f} s, {left:.0f} s of it left", _MEND)
        if self.most_tokens is not None and cost.tokens is not None and cost.tokens > self.most_tokens:
            rule = f"must last for a trial, which trains on {cost.tokens:,.0f} tokens"
            raise refuse("study.budget_tokens", rule, f"{self.most_tokens:,.0f}", _MEND)

    def allows_another(self) -> bool:
        """Whether a further trial fits into what is left."""
        self.why_over = self._find_limit()
        return self.why_over is None

    def _find_limit(self) -> str | None:
        if self.most_seconds is not None:
            expected = statistics.median(self.durations) if self.durations else self._forecast.seconds or 0.0
            if self.seconds() + max(expected, self._expect_turn(expected)) > self.most_seconds:
                share = f"{self.seconds():.0f} of {self.most_seconds:.0f} s"
                return f"study.budget is spent, {share}, and a trial takes {expected:.0f} s"
        if self.most_tokens is not None:
            each = statistics.median(self.tokens) if self.tokens else self._forecast.tokens or 0.0
            spent = sum(self.tokens) + each * len(self.asked)
            if spent + each > self.most_tokens:
                return (
                    f"study.budget_tokens is spent, {spent:,.0f} of {self.most_tokens:,.0f}, and a trial takes "
                    f"{each:,.0f}"
                )
        return None

    def _expect_turn(self, expected: float) -> float:
        """Seconds until those that run or wait, and one more, have ended: at the pace so far, where trials that train
        at once count for what they are, or else as the forecast says."""
        each = expected
        if self.num_ended_now:
            each = self.num_workers * (time.monotonic() - self.since) / self.num_ended_now
        return each * (len(self.asked) + 1) / self.num_workers

    def begin(self, number: int) -> None:
        """Notes that a trial was asked for."""
        self.asked.add(number)

    def end(self, record: TrialRecord) -> None:
        """Notes what a trial took, and stores what is spent so far. Raises `StoreError`."""
        if record.number in self.asked:
            self.asked.remove(record.number)
            self.num_ended_now += 1
        if (seconds := _sum_phases(record)) > 0:
            self.durations.append(seconds)
        if record.num_train_tokens:
            self.tokens.append(record.num_train_tokens)
        if self.most_seconds is not None:
            write_json(self.folder / _FILE, {"seconds": self.seconds()})


def _sum_phases(record: TrialRecord) -> float:
    """Seconds from the beginning of a trial to its end, without those in which it waited for others; 0 where none were
    measured."""
    return sum(phase.seconds for phase in record.phases.values())


def _read_spent(folder: Path) -> float:
    """Seconds of earlier runs; 0 for a new study. Raises `StoreError`."""
    path = folder / _FILE
    if not path.exists():
        return 0.0
    spent: Any = read_json(path)
    seconds = spent.get("seconds") if isinstance(spent, dict) else None
    if not is_number(seconds):
        raise StoreError(f"{path} must hold the seconds that were spent, got {spent}; move it out of the way")
    return float(seconds)
