"""The live display: bars with time left on a terminal, one line per trial elsewhere."""

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from sweeplab.records.record import Status, TrialRecord
from sweeplab.report.evidence.formatting import count_noun, describe_params
from sweeplab.tracking.status_file import RunningTrial, StudyStatus, to_unix_time, write_status

_WRITE_SECONDS: Final = 1.0  # least time between two writes of progress.json
_MOST_QUIET_SECONDS: Final = 60.0  # without a bar, a line is printed after so long without one


def format_clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass
class _RunningTrial:
    """A trial that has started and has not ended."""

    label: str
    since: float
    fraction: float = 0.0  # of its steps
    loss: float | None = None


class StudyProgress:
    """Shows how many trials are done, the progress and loss of running ones, and the time left, estimated from this
    run."""

    def __init__(
        self,
        num_planned: int,
        num_done: int,
        console: Console,
        folder: Path | None = None,
        num_workers: int = 1,
        may_end_early: bool = False,
    ) -> None:
        """`folder`: the study's, where progress.json is written for action=watch; None: it is not written.

        `may_end_early`: the time left, and the number of trials, is the most that it may be, as in a race.
        """
        self.most = " at most" if may_end_early else ""
        self.console = console
        self.workers = count_noun(num_workers, "worker")
        self.folder = folder
        self.written_at = -_WRITE_SECONDS
        self.timer: threading.Timer | None = None  # for the next write
        self.mutex = threading.Lock()
        self.is_over = False
        self.num_planned = num_planned
        self.num_done = num_done
        self.num_ended_now = 0
        self.since = time.monotonic()
        self.running: dict[int, _RunningTrial] = {}
        self.last_line_at = self.since
        self.said: set[str] = set()  # what was to be said once
        self.stopped = threading.Event()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.trials: TaskID = self.bars.add_task(self.count(), total=num_planned, completed=num_done, left="")
        self.steps: TaskID = self.bars.add_task("starting the worker", total=None, left="")

    def count(self) -> str:
        return f"{self.num_done}/{self.num_planned} trials"

    def num_under_way(self) -> float:
        return sum(one.fraction for one in list(self.running.values()))

    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of the study; None until something has been measured."""
        done = self.num_ended_now + self.num_under_way()
        if done < 0.05:
            return None
        per_trial = (time.monotonic() - self.since) / done
        return per_trial * (self.num_planned - self.num_done - self.num_under_way())

    def time_left(self) -> str:
        """`seconds_left` as text; empty where it is not known."""
        seconds = self.seconds_left()
        return "" if seconds is None else f"{format_clock(seconds)} left{self.most}"

    def _schedule_write(self) -> None:
        """Writes progress.json now, or once `_WRITE_SECONDS` have passed since the last write."""
        left = self.written_at + _WRITE_SECONDS - time.monotonic()
        if left <= 0:
            self.write()
        elif self.timer is None:
            self.timer = threading.Timer(left, self.write)
            self.timer.daemon = True
            self.timer.start()

    def write(self, ended: bool = False) -> None:
        with self.mutex:
            if self.folder is None or self.is_over:
                return
            if self.timer is not None:
                self.timer.cancel()
            self.timer, self.written_at = None, time.monotonic()
            running = [
                RunningTrial(number, one.label, to_unix_time(one.since), one.fraction, one.loss)
                for number, one in list(self.running.items())
            ]
            now = StudyStatus(time.time(), self.num_planned, self.num_done, self.seconds_left(), ended, running)
            write_status(self.folder, now)

    def started(self, number: int, params: dict[str, Any], seed: int) -> None:
        label = f"trial {number}: {describe_params(params)} seed={seed}"
        self.running[number] = _RunningTrial(label, time.monotonic())
        self.show()
        self._schedule_write()

    def observed(self, number: int, step: int, values: dict[str, float]) -> None:
        trial = self.running[number]
        trial.fraction = step / values["num_steps"]
        trial.loss = values.get("train_loss", trial.loss)
        self.show()
        self._schedule_write()

    def show(self) -> None:
        """Updates both bars: all trials, and those that are running."""
        running = list(self.running.values())
        losses = [one.loss for one in running if one.loss is not None]
        loss = f", loss {sum(losses) / len(losses):.3f}" if losses else ""
        what = running[0].label if len(running) == 1 else f"{len(running)} at once"
        doing = f", evaluating{loss}" if all(one.fraction == 1 for one in running) else loss or ", loading"
        share = self.num_under_way() / max(1, len(running))
        self.bars.update(self.steps, total=1, completed=share, description=what + doing)
        completed = self.num_done + self.num_under_way()
        self.bars.update(self.trials, description=self.count(), completed=completed, left=self.time_left())

    def say(self, text: str) -> None:
        self.last_line_at = time.monotonic()
        self.console.print(Text(text), soft_wrap=True)

    def say_once(self, text: str) -> None:
        """Of what several workers say alike, only the first is printed."""
        if text not in self.said:
            self.said.add(text)
            self.say(text)

    def _report_when_quiet(self) -> None:
        """Where no bar is shown: prints the count, what is running and the time left after a minute without a line."""
        while not self.stopped.wait(max(0.0, self.last_line_at + _MOST_QUIET_SECONDS - time.monotonic())):
            if time.monotonic() >= self.last_line_at + _MOST_QUIET_SECONDS:
                doing = self.bars.tasks[self.steps].description
                self.say(f"[{self.num_done}/{self.num_planned}] {doing}  {self.time_left()}".rstrip())

    def ended(self, record: TrialRecord, headline: str) -> None:
        """Prints the line of a trial that has ended, with the time since it started."""
        trial = self.running.pop(record.number)
        self.num_done += 1
        self.num_ended_now += 1
        outcome = headline if record.status is Status.FINISHED else f"{record.status}: {record.reason}"
        took = format_clock(time.monotonic() - trial.since)
        self.say(f"[{self.num_done}/{self.num_planned}] {trial.label}  {outcome}  {took}  {self.time_left()}".rstrip())
        self.show()
        self._schedule_write()

    def __enter__(self) -> Self:
        self.bars.start()
        if not self.console.is_terminal:
            self.say(
                f"{count_noun(self.num_planned, 'trial')}{self.most}, {self.num_done} done, {self.workers}, loading"
            )
            threading.Thread(target=self._report_when_quiet, daemon=True).start()
        self._schedule_write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self.bars.stop()
        self.write(ended=kind is None)
        self.is_over = True
        sys.stdout.flush()
