"""Cohort after cohort: trials go to the workers, their records come back and are stored and told."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sweeplab.config.compose import Request
from sweeplab.config.study import StudyConfig
from sweeplab.config.training import TrainingConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution.cohorts import Lineup
from sweeplab.execution.executor import Event, Executor
from sweeplab.execution.messages import Message
from sweeplab.planning.fit import MemoryGate
from sweeplab.records.record import LargerBatch, Status, TrialRecord, metric_value
from sweeplab.records.store import read_record, record_path, write_record
from sweeplab.report.evidence.formatting import DASH, label_metric
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.search import Search
from sweeplab.tracking.progress import StudyProgress
from sweeplab.tracking.wandb import Tracker

MOST_IDLE_DEATHS: Final = 3  # of each worker, where none has a trial to blame


class Stopped(Exception):
    """The study goes no further, as it was told to in such a case; the message says in which."""


@dataclass
class Batch:
    """What a worker was sent: trials that start together, and those that took the place of ended ones."""

    cohort: list[TrialSpec]
    retried: bool = False
    running: dict[int, TrialSpec] = field(default_factory=dict)


def headline(record: TrialRecord, config: StudyConfig) -> str:
    """The objectives' values, under the names that tables give them."""
    values = ((label_metric(metric), metric_value(record, metric)) for metric in config.study.objectives)
    return "  ".join(f"{label} {DASH if value is None else f'{value:.4g}'}" for label, value in values)


def lost(spec: TrialSpec, died: Message) -> TrialRecord:
    """The record of a trial whose worker died, and died again."""
    return spec.new_record(Status(died["status"]), died["reason"])


def halved(training: TrainingConfig) -> TrainingConfig | None:
    """Micro-batches of at most half the size, as many examples per optimizer step; None where each device has one."""
    window, count = training.micro_batch_size * training.accumulation, training.num_devices
    sizes = [size for size in range(training.micro_batch_size // 2, 0, -1) if window % size == 0 == size % count]
    return replace(training, micro_batch_size=sizes[0], accumulation=window // sizes[0]) if sizes else None


class Rounds:
    """Runs the trials that a search asks for until it asks for no more."""

    def __init__(
        self,
        request: Request,
        folder: Path,
        search: Search,
        executor: Executor,
        tracker: Tracker,
        progress: StudyProgress,
    ) -> None:
        self.request = request
        self.config = request.config
        self.folder = folder
        self.search = search
        self.executor = executor
        self.tracker = tracker
        self.progress = progress
        self.gate = MemoryGate(request.config)
        self.lineup = Lineup(self.to_run(), request.config)
        self.again: deque[Batch] = deque()  # what is to be run before anything new
        self.at_work: dict[int, Batch] = {}  # by worker
        self.larger_batches: dict[int, list[LargerBatch]] = {}  # that a trial was tried with before, by number
        self.num_failed_in_a_row = 0
        self.num_idle_deaths = 0  # in a row

    def run(self) -> None:
        """Raises `ConfigError`, `StoreError` and `Stopped`."""
        while self.employ():
            self.hear(self.executor.next_event())

    def hear(self, event: Event) -> None:
        if event.message["kind"] == "refused":
            raise ConfigError(event.message["message"])
        if event.worker in self.at_work:
            self.take(event, self.at_work[event.worker])
        elif event.message["kind"] == "died":
            self.died_idle(event)

    def employ(self) -> bool:
        """Gives every idle worker a cohort, as far as there are any; True while there is something to wait for."""
        idle = [worker for worker in range(self.executor.num_workers) if worker not in self.at_work]
        share = len(idle)  # one that is not ready yet will want its own
        for worker in filter(self.executor.is_ready, idle):
            batch = self.next_batch(share)
            share -= 1
            if batch.cohort:
                self.at_work[worker] = batch
                self.executor.submit(worker, [self.start(one, batch) for one in batch.cohort])
        if not self.at_work and (batch := self.next_batch(max(1, share))).cohort:
            self.again.appendleft(batch)  # for the first worker that is ready
        return bool(self.at_work or self.again)

    def next_batch(self, num_idle: int) -> Batch:
        return self.again.popleft() if self.again else Batch(self.lineup.cohort(num_idle))

    def to_run(self) -> Iterator[TrialSpec]:
        """Trials that the search asks for, but for those that have a record already and those that do not fit."""
        for spec in self.search.asked():
            stored = record_path(self.folder, spec.number)
            if stored.exists():  # an earlier driver was stopped before it told the search
                self.progress.started(spec.number, spec.params, spec.seed)
                self.tell(read_record(stored))
            elif skipped := self.gate.skipped(spec):
                self.introduce(spec)
                self.end(skipped)
            else:
                yield spec

    def start(self, spec: TrialSpec, batch: Batch) -> Message:
        """A trial as the worker takes it."""
        batch.running[spec.number] = spec
        self.introduce(spec)
        return spec.to_dict()

    def introduce(self, spec: TrialSpec) -> None:
        """To who watches."""
        self.progress.started(spec.number, spec.params, spec.seed)
        self.tracker.started(spec.number, spec.params, spec.seed, spec.config)

    def take(self, event: Event, batch: Batch) -> None:
        """What a worker says of its batch."""
        message = event.message
        match message["kind"]:
            case "observed":
                self.observed(event.worker, message)
            case "said":
                self.progress.say(message["text"])
            case "ended":
                ended = batch.running.pop(message["record"]["number"])
                self.ended(ended, TrialRecord.from_dict(message["record"]))
                newcomers = self.lineup.newcomer(ended) if not self.again else []
                self.executor.join(event.worker, [self.start(one, batch) for one in newcomers])
            case "done":
                del self.at_work[event.worker]
            case "died":
                self.num_idle_deaths = 0
                del self.at_work[event.worker]
                self.executor.restart(event.worker)
                self.died(batch, message)

    def observed(self, worker: int, message: Message) -> None:
        number, step, values = message["number"], message["step"], message["values"]
        self.progress.observed(number, step, values)
        self.tracker.observed(number, step, values)
        if self.config.pruner.name != "none" and "heldout_loss" in values:
            self.executor.verdict(worker, self.search.report(number, step, values["heldout_loss"]))

    def died(self, batch: Batch, died: Message) -> None:
        """What a worker's death costs the trials that it had: one retry; then halves find the trial to blame."""
        left = list(batch.running.values())
        self.tracker.interrupted(batch.running)  # their steps begin again, which one W&B run cannot hold
        if not left:  # it had nothing to do, and another one that did no more would go on for ever
            return
        if died["taken"]:
            self.again.appendleft(Batch(left, batch.retried))
        elif not batch.retried or (len(left) == 1 and left[0] not in batch.cohort):  # a newcomer has a retry of its own
            self.again.appendleft(Batch(left, retried=True))
        elif len(left) == 1:
            self.end(lost(left[0], died))
        else:
            middle = len(left) // 2
            self.again.extendleft(Batch(half, retried=True) for half in (left[middle:], left[:middle]))

    def died_idle(self, event: Event) -> None:
        """A worker that had no trials is replaced, unless one after another ends before it can begin."""
        message = event.message
        self.num_idle_deaths += not message["taken"]
        if self.num_idle_deaths == MOST_IDLE_DEATHS * self.executor.num_workers:
            raise Stopped(f"workers end before they can begin: {message['reason']}")
        self.executor.restart(event.worker)

    def ended(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Stores what a worker tells of a trial, unless it is tried again with smaller micro-batches."""
        record.larger_batches = self.larger_batches.pop(spec.number, [])
        if record.status is not Status.OUT_OF_MEMORY:
            self.end(record)
            return
        policy, training = self.config.executor.on_out_of_memory, spec.config.training
        smaller = halved(training) if policy == "halve" else None
        if smaller is None:
            self.end(record)
            if policy == "stop":
                raise Stopped(f"trial {record.number} ran out of memory, and executor.on_out_of_memory=stop")
            return
        tried = LargerBatch(training.micro_batch_size, training.accumulation, str(record.reason))
        self.progress.say(
            f"trial {record.number}: out of memory; again with training.micro_batch_size={smaller.micro_batch_size} "
            f"and training.accumulation={smaller.accumulation}"
        )
        self.tracker.interrupted([record.number])
        self.larger_batches[spec.number] = [*record.larger_batches, tried]
        self.again.append(Batch([replace(spec, config=replace(spec.config, training=smaller))]))

    def end(self, record: TrialRecord) -> None:
        write_record(self.folder, record)
        self.tracker.ended(record)
        self.tell(record)
        failed = record.status in (Status.FAILED, Status.TIMED_OUT)
        self.num_failed_in_a_row = self.num_failed_in_a_row + 1 if failed else 0
        if self.num_failed_in_a_row == self.config.study.max_failures:
            raise Stopped(
                f"{self.num_failed_in_a_row} trials failed one after another (study.max_failures), the last: "
                f"{record.reason}"
            )

    def tell(self, record: TrialRecord) -> None:
        self.search.tell(record)
        self.progress.ended(record, headline(record, self.config))
