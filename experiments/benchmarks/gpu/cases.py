"""Cases one after another within a time budget: each leaves a row, whatever becomes of it."""

import gc
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch

Row = dict[str, Any]
RING_AGAIN_SECONDS: Final = 20


class Case(NamedTuple):
    """One measurement: `measure` gives the values of its row, `facts` what it is of."""

    name: str
    estimated_seconds: float
    facts: Row
    measure: Callable[[], Row]


class NotMeasured(Exception):
    """A case that ended by itself without a measurement: status and reason of its row."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` inside after so many seconds, and again where that is taken for one trial's failure.

    An alarm that somebody else has set goes on afterwards.
    """

    def ring(*_: object) -> None:
        raise TimeoutError(f"stopped after {seconds:.0f} s, where the part's budget ends")

    before = signal.signal(signal.SIGALRM, ring)
    others, _ = signal.setitimer(signal.ITIMER_REAL, seconds, RING_AGAIN_SECONDS)
    started = time.monotonic()
    try:
        yield
    finally:
        left = max(0.001, others - (time.monotonic() - started)) if others else 0
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, before)


def free_memory() -> None:
    """What a failed case held, given back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def outcome(case: Case, seconds: float) -> Row:
    """The row of one case. Every failure becomes one: the others must still be measured."""
    started = time.perf_counter()
    try:
        with time_limit(seconds):
            values = {"status": "measured", **case.measure()}
    except NotMeasured as error:
        values = {"status": error.status, "reason": str(error)}
    except torch.OutOfMemoryError as error:
        values = {"status": "out_of_memory", "reason": str(error).splitlines()[0]}
    except Exception as error:  # a library's error here says nothing about the next case
        values = {"status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]}
    if values["status"] != "measured":
        free_memory()
    return {"case": case.name, **case.facts, **values, "seconds": time.perf_counter() - started}


def run_cases(cases: Sequence[Case], budget_seconds: float, keep: Callable[[list[Row]], None]) -> list[Row]:
    """Rows of all cases in their order, handed to `keep` after each. One that would not end in time is left out.

    Estimates are stretched by what the cases so far took above theirs.
    """
    started, rows = time.monotonic(), list[Row]()
    estimated, pace = 0.0, 1.0
    for case in cases:
        left = budget_seconds - (time.monotonic() - started)
        expected = case.estimated_seconds * pace
        if expected > left:
            reason = f"{expected:.0f} s expected, {max(0.0, left):.0f} s of {budget_seconds:.0f} left"
            rows.append({"case": case.name, **case.facts, "status": "left_out", "reason": reason})
        else:
            rows.append(outcome(case, left))
            estimated += case.estimated_seconds
            pace = max(1.0, (time.monotonic() - started) / estimated)
        keep(rows)
    return rows
