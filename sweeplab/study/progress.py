"""The live display: bars with time left on a terminal, one line per trial elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from sweeplab.records import Status, TrialRecord


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def named(params: dict[str, Any]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in params.items()) or "the configured setting"


class StudyProgress:
    """Trials done, the running trial's step and loss, and the time left, from the mean time of this run's trials."""

    def __init__(self, num_planned: int, num_done: int, console: Console) -> None:
        self.console = console
        self.num_planned = num_planned
        self.num_done = num_done
        self.num_ended_here = 0
        self.started = time.monotonic()
        self.fraction = 0.0  # of the running trial
        self.loss: float | None = None
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.trials: TaskID = self.bars.add_task("trials", total=num_planned, completed=num_done, left="")
        self.steps: TaskID = self.bars.add_task("starting the worker", total=None, left="")

    def time_left(self) -> str:
        """Words for the time to the end; empty until something has been measured."""
        done = self.num_ended_here + self.fraction
        if done < 0.05:
            return ""
        per_trial = (time.monotonic() - self.started) / done
        return f"{clock(per_trial * (self.num_planned - self.num_done - self.fraction))} left"

    def started_trial(self, number: int, params: dict[str, Any], seed: int) -> None:
        self.fraction, self.loss = 0.0, None
        self.label = f"trial {number}: {named(params)} seed={seed}"
        self.bars.reset(self.steps, total=None, description=f"{self.label}, loading", left="")

    def observed(self, step: int, values: dict[str, float]) -> None:
        num_steps = int(values["num_steps"])
        self.fraction = step / num_steps
        self.loss = values.get("train_loss", self.loss)
        loss = "" if self.loss is None else f"loss {self.loss:.3f}"
        doing = f", evaluating {loss}" if step == num_steps else f", {loss}" if loss else ""
        self.bars.update(self.steps, total=num_steps, completed=step, description=self.label + doing)
        self.bars.update(self.trials, left=self.time_left())

    def ended(self, record: TrialRecord, headline: str) -> None:
        self.num_done += 1
        self.num_ended_here += 1
        self.fraction = 0.0
        seconds = sum(phase.seconds for phase in record.phases.values())
        outcome = headline if record.status is Status.FINISHED else f"{record.status}: {record.reason}"
        line = f"[{self.num_done}/{self.num_planned}] {self.label}  {outcome}  {clock(seconds)}  {self.time_left()}"
        self.console.print(Text(line.rstrip()), soft_wrap=True)
        self.bars.update(self.trials, completed=self.num_done, left=self.time_left())

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()
        sys.stdout.flush()
