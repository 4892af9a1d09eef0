"""What a study may spend, `study.budget` and `study.budget_tokens`: after that no further trial begins."""

import statistics
import time
from pathlib import Path
from typing import Any, Final

from sweeplab.config.sizes import num_seconds
from sweeplab.config.study import StudySection
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import StoreError, read_json, write_json
from sweeplab.records.stored import is_number

_FILE: Final = "spent.json"  # seconds of all runs of the study so far


class Budget:
    """Time and tokens of a study, those of earlier runs included. A trial begins only where one as long as the others
    fits into what is left; it then trains to its end."""

    def __init__(self, study: StudySection, folder: Path, records: list[TrialRecord]) -> None:
        """Raises `StoreError` where what earlier runs spent cannot be read."""
        self.folder = folder
        self.most_seconds = None if study.budget is None else num_seconds("study.budget", study.budget)
        self.most_tokens = study.budget_tokens
        self.earlier_seconds = _read_spent(folder)
        self.since = time.monotonic()
        self.tokens = [record.num_train_tokens for record in records if record.num_train_tokens]
        self.begun: dict[int, float] = {}  # seconds at which running trials began, by number
        self.durations: list[float] = []
        self.why_over: str | None = None  # what is spent, once a trial could not begin for it

    def seconds(self) -> float:
        """Wall seconds of all runs so far."""
        return self.earlier_seconds + time.monotonic() - self.since

    def share_of_time(self) -> tuple[float, float] | None:
        """Seconds that are spent, and the most; None without a limit."""
        return None if self.most_seconds is None else (self.seconds(), self.most_seconds)

    def allows_another(self) -> bool:
        """Whether a further trial fits into what is left."""
        self.why_over = self._find_limit()
        return self.why_over is None

    def _find_limit(self) -> str | None:
        if self.most_seconds is not None:
            expected = statistics.median(self.durations) if self.durations else 0.0
            if self.seconds() + expected > self.most_seconds:
                share = f"{self.seconds():.0f} of {self.most_seconds:.0f} s"
                return f"study.budget is spent, {share}, and a trial takes {expected:.0f} s"
        if self.most_tokens is not None:
            each = statistics.median(self.tokens) if self.tokens else 0.0
            spent = sum(self.tokens) + each * len(self.begun)
            if spent + each > self.most_tokens:
                return (
                    f"study.budget_tokens is spent, {spent:,.0f} of {self.most_tokens:,.0f}, and a trial takes "
                    f"{each:,.0f}"
                )
        return None

    def begin(self, number: int) -> None:
        """Notes that a trial begins."""
        self.begun.setdefault(number, time.monotonic())

    def end(self, record: TrialRecord) -> None:
        """Notes what a trial took, and stores what is spent so far. Raises `StoreError`."""
        began = self.begun.pop(record.number, None)
        if began is not None:
            self.durations.append(time.monotonic() - began)
        if record.num_train_tokens:
            self.tokens.append(record.num_train_tokens)
        if self.most_seconds is not None:
            write_json(self.folder / _FILE, {"seconds": self.seconds()})


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
