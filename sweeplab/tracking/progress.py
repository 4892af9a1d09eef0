"""The live display: a bar, what each worker does and the best so far on a terminal; one line per trial elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from sweeplab.records.record import Status, TrialRecord
from sweeplab.report.evidence.formatting import count_noun, describe_params
from sweeplab.tracking.pace import Counts, Pace, format_clock
from sweeplab.tracking.status_file import StudyStatus, TrialProgress, to_unix_time, write_status
from sweeplab.tracking.under_way import ShownTrial, Standing, TimeLimit, Work, describe_duration, describe_work

WORK_FIELDS: Final = ("what", "trials", "count", "steps")  # of a worker's message `doing`
_WRITE_SECONDS: Final = 1.0  # least time between two writes of progress.json
_MOST_QUIET_SECONDS: Final = 60.0  # without a bar, a line is printed after so long without one
_MOST_WORKERS: Final = 8  # that have a line each
_TRAINING_SHARE: Final = 0.9  # of a trial, on the bar, which is full once the last one has been scored


class StudyProgress:
    """Shows how many trials are done, what each worker does, the best so far, and the time left, estimated from this
    run."""

    def __init__(
        self,
        num_planned: int,
        num_done: int,
        console: Console,
        folder: Path | None = None,
        num_workers: int = 1,
        may_end_early: bool = False,
        earlier: Sequence[TrialRecord] = (),
        find_standing: Callable[[list[TrialRecord]], list[str]] = lambda records: [],
        limit: TimeLimit | None = None,
        foreseen: float | None = None,
    ) -> None:
        """`folder`: the study's, where progress.json is written for action=watch; None: it is not written.

        `may_end_early`: the time left, and the number of trials, is the most that it may be, as in a race.
        `find_standing`: sentences on the best so far, of all records; `earlier`: those of earlier runs. `limit`: of
        the time. `foreseen`: seconds that the study takes, by earlier trials or its plan; until any were measured.
        """
        self.most = " at most" if may_end_early else ""
        self.limit = limit
        self.foreseen_end = None if foreseen is None else time.monotonic() + foreseen
        self.console = console
        self.workers = count_noun(num_workers, "worker")
        self.num_workers = num_workers
        self.folder = folder
        self.written_at = -_WRITE_SECONDS
        self.timer: threading.Timer | None = None  # for the next write
        self.mutex = threading.Lock()
        self.is_over = False
        self.goes_on = False  # a person stopped the study, which has trials left
        self.num_planned = num_planned
        self.num_done = num_done
        self.num_ended_now = 0
        self.pace = Pace(num_workers)
        self.running: dict[int, ShownTrial] = {}
        self.work: dict[int, Work] = {}  # by worker
        self.standing = Standing(find_standing)
        self.records = list(earlier)
        self.last_line_at = time.monotonic()
        self.said: set[str] = set()  # what was to be said once
        self.stopped = threading.Event()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=console,
        )
        self.trials: TaskID = self.bars.add_task(
            f"{self.count()} trials", total=num_planned, completed=num_done, left=""
        )
        self.live = Live(console=console, get_renderable=self.draw, transient=True, refresh_per_second=2)

    def plan(self, num_planned: int) -> None:
        """Takes in how many trials the study has, once a person has added some."""
        if num_planned != self.num_planned:
            self.num_planned = num_planned
            self.bars.update(self.trials, total=num_planned)
            self._schedule_write()

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
        counts = Counts(
            num_left=max(0, self.num_planned - self.num_done),
            num_started=self.num_ended_now + len(self.running),
            num_ended=self.num_ended_now,
            trained=self.num_ended_now + self.num_under_way(),
        )
        measured = self.pace.seconds_left(counts)
        if measured is not None or self.foreseen_end is None:
            return measured
        left = self.foreseen_end - time.monotonic()
        return left if left > 0 else None  # it was too short

    def _budget_left(self) -> float | None:
        return None if self.limit is None else max(0.0, self.limit.most_seconds - self.limit.count_spent())

    def time_left(self) -> str:
        """`seconds_left` as text, with what is spent of a budget; empty where neither is known."""
        estimate, budget = self._estimate_left(), self._budget_left()
        if self.limit is None or budget is None:
            return "" if estimate is None else f"{format_clock(estimate)} left{self.most}"
        share = min(1.0, self.limit.count_spent() / self.limit.most_seconds)
        if estimate is None or budget < estimate:
            return f"{format_clock(budget)} left of study.budget, {share:.0%} spent"
        return f"{format_clock(estimate)} left{self.most}, {share:.0%} of study.budget spent"

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
                TrialProgress(number, one.label, to_unix_time(one.since), one.fraction, one.loss)
                for number, one in list(self.running.items())
            ]
            left, doing = self.seconds_left(), self.describe_work()
            write_status(
                self.folder, StudyStatus(time.time(), self.num_planned, self.num_done, left, ended, running, doing)
            )

    def started(self, number: int, params: dict[str, Any], seed: int) -> None:
        label = f"trial {number}: {describe_params(params)} seed={seed}"
        self.running[number] = ShownTrial(label, time.monotonic())
        self._schedule_write()

    def doing(self, worker: int, what: str, trials: Sequence[int], count: str, steps: Sequence[int] = ()) -> None:
        """A worker says what it does now: a word for it, of which trials, how far it is, and the step of each trial."""
        before = self.work.get(worker)
        if before is None or before.what != what:
            self.pace.turn(worker, what)
        self.work[worker] = Work(what, list(trials), count)
        for number, step in zip(trials, steps, strict=bool(steps)):
            if number in self.running:
                self.running[number].step = step
        self._schedule_write()

    def rests(self, worker: int) -> None:
        """A worker has nothing to do."""
        self.pace.turn(worker, None)
        self.work.pop(worker, None)

    def observed(self, number: int, step: int, values: dict[str, float]) -> None:
        trial = self.running[number]
        trial.step, trial.num_steps = step, round(values["num_steps"])
        trial.loss = values.get("train_loss", trial.loss)
        self._schedule_write()

    def describe_work(self) -> list[str]:
        """A line for each worker that does something; the first ones where there are many."""
        work = sorted(self.work.items())
        lines = [
            (f"worker {worker}: " if self.num_workers > 1 else "") + describe_work(one, self.running)
            for worker, one in work[:_MOST_WORKERS]
        ]
        if len(work) > _MOST_WORKERS:
            lines.append(f"and {count_noun(len(work) - _MOST_WORKERS, 'worker')} more")
        if lines or self.num_done >= self.num_planned:
            return lines
        return ["starting the worker" if self.num_workers == 1 else f"starting {self.workers}"]

    def draw(self) -> Group:
        """The bar, and below it a line for each worker and the best so far."""
        completed = self.num_done + _TRAINING_SHARE * self.num_under_way()
        self.bars.update(self.trials, description=f"{self.count()} trials", completed=completed, left=self.time_left())
        lines = [*self.describe_work(), *self.standing.look(self.records)]
        return Group(self.bars, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))

    def say(self, text: str) -> None:
        self.last_line_at = time.monotonic()
        self.console.print(Text(text), soft_wrap=True)

    def say_once(self, text: str) -> None:
        """Of what several workers say alike, only the first is printed."""
        if text not in self.said:
            self.said.add(text)
            self.say(text)

    def _report_when_quiet(self) -> None:
        """Without a terminal: what is done, the time left, what each worker does, and the best so far, after a minute
        without a line."""
        while not self.stopped.wait(max(0.0, self.last_line_at + _MOST_QUIET_SECONDS - time.monotonic())):
            if time.monotonic() >= self.last_line_at + _MOST_QUIET_SECONDS:
                parts = [*self.describe_work(), self.time_left(), *self.standing.look(self.records)]
                self.say(f"[{self.count()}] {'; '.join(filter(None, parts))}")

    def ended(self, record: TrialRecord, headline: str) -> None:
        """Prints the line of a trial that has ended, with the time that it took."""
        trial = self.running.pop(record.number)
        self.num_done += 1
        self.num_ended_now += 1
        self.records.append(record)
        self.pace.end_trial()
        outcome = headline if record.status is Status.FINISHED else f"{record.status}: {record.reason}"
        took = describe_duration(record, time.monotonic() - trial.since)
        self.say(f"[{self.count()}] {trial.label}  {outcome}  {took}  {self.time_left()}".rstrip())
        self._schedule_write()

    def _describe_extent(self) -> str:
        """What is planned: a number of trials, or as many as a race needs within its budget."""
        if self.most and self.limit is not None:
            spent, most = format_clock(self.limit.count_spent()), format_clock(self.limit.most_seconds)
            return f"as many trials as it needs, {spent} of {most} spent"
        return f"{count_noun(self.num_planned, 'trial')}{self.most}"

    def __enter__(self) -> Self:
        if self.num_done >= self.num_planned and not self.most:
            self.say(f"All {count_noun(self.num_planned, 'trial')} ended before; nothing is left to train.")
        elif self.console.is_terminal:
            self.live.start()
        else:
            self.say(f"{self._describe_extent()}, {self.num_done} done, {self.workers}")
            threading.Thread(target=self._report_when_quiet, daemon=True).start()
        self._schedule_write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self.live.stop()
        self.write(ended=kind is None and not self.goes_on)
        self.is_over = True
        sys.stdout.flush()
