"""The live display: bars with time left on a terminal, one line per trial elsewhere."""

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid
from rich.text import Text

from sweeplab.records.items import Items
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.report import summarize_answer, summarize_settings
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


class TimeLimit(NamedTuple):
    """`study.budget`."""

    most_seconds: float
    count_spent: Callable[[], float]  # seconds of all runs of the study so far


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
        limit: TimeLimit | None = None,
    ) -> None:
        """`folder`: the study's, where progress.json is written for action=watch; None: it is not written.

        `may_end_early`: the time left, and the number of trials, is the most that it may be, as in a race.
        """
        self.most = " at most" if may_end_early else ""
        self.limit = limit
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
        self.trials: TaskID = self.bars.add_task(
            f"{self.count()} trials", total=num_planned, completed=num_done, left=""
        )
        self.steps: TaskID = self.bars.add_task("starting the worker", total=None, left="")

    def count(self) -> str:
        """Trials that are done, of those that are planned where nothing else ends the study."""
        ends_otherwise = self.most and self.limit is not None
        return str(self.num_done) if ends_otherwise else f"{self.num_done}/{self.num_planned}"

    def num_under_way(self) -> float:
        return sum(one.fraction for one in list(self.running.values()))

    def seconds_left(self) -> float | None:
        """Estimated seconds to the end of the study, as far as its budget goes; None until something has been
        measured."""
        known = [one for one in (self._estimate_left(), self._budget_left()) if one is not None]
        return min(known, default=None)

    def _estimate_left(self) -> float | None:
        """Seconds that the planned trials will still take; None until something has been measured."""
        done = self.num_ended_now + self.num_under_way()
        if done < 0.05:
            return None
        per_trial = (time.monotonic() - self.since) / done
        return per_trial * (self.num_planned - self.num_done - self.num_under_way())

    def _budget_left(self) -> float | None:
        return None if self.limit is None else max(0.0, self.limit.most_seconds - self.limit.count_spent())

    def time_left(self) -> str:
        """`seconds_left` as text; empty where it is not known."""
        estimate, budget = self._estimate_left(), self._budget_left()
        if budget is not None and (estimate is None or budget < estimate):
            return f"{format_clock(budget)} left of study.budget"
        return "" if estimate is None else f"{format_clock(estimate)} left{self.most}"

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
        self.bars.update(self.trials, description=f"{self.count()} trials", completed=completed, left=self.time_left())

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
                self.say(f"[{self.count()}] {doing}  {self.time_left()}".rstrip())

    def ended(self, record: TrialRecord, headline: str) -> None:
        """Prints the line of a trial that has ended, with the time since it started."""
        trial = self.running.pop(record.number)
        self.num_done += 1
        self.num_ended_now += 1
        outcome = headline if record.status is Status.FINISHED else f"{record.status}: {record.reason}"
        took = format_clock(time.monotonic() - trial.since)
        self.say(f"[{self.count()}] {trial.label}  {outcome}  {took}  {self.time_left()}".rstrip())
        self.show()
        self._schedule_write()

    def _describe_extent(self) -> str:
        """What is planned: a number of trials, or as many as a race needs within its budget."""
        if self.most and self.limit is not None:
            spent, most = format_clock(self.limit.count_spent()), format_clock(self.limit.most_seconds)
            return f"as many trials as it needs, {spent} of {most} spent"
        return f"{count_noun(self.num_planned, 'trial')}{self.most}"

    def __enter__(self) -> Self:
        self.bars.start()
        if not self.console.is_terminal:
            self.say(f"{self._describe_extent()}, {self.num_done} done, {self.workers}, loading")
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


def show_summary(
    facts: StudyFacts, records: list[TrialRecord], items: Items | None, folder: Path, report: Path, console: Console
) -> None:
    """Prints the settings table, the answer in sentences, and the paths of records and report."""
    table = summarize_settings(facts, records, items)
    grid = Grid(title=facts.name, title_justify="left")
    for column in table.columns:
        unit = f"\n{column.unit}" if column.unit else ""
        grid.add_column(Text(column.title + unit), justify="right" if column.numeric else "left", overflow="fold")
    for place, row in enumerate(table.rows):
        grid.add_row(*(Text(cell.text) for cell in row), style="bold" if place == table.marked else "")
    console.print(grid)
    for sentence in summarize_answer(facts, records, items):
        console.print(Text(sentence), soft_wrap=True)
    console.print(Text(f"records  {folder / 'trials'}\nreport   {report}"), soft_wrap=True)
