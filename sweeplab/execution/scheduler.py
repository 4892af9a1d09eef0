"""The scheduler: sends trials to workers cohort by cohort, stores their records and tells the search."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sweeplab.config.compose import Request
from sweeplab.config.study import StudyConfig
from sweeplab.config.training import TrainingConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution.cohorts import CohortBuilder
from sweeplab.execution.executor import Executor
from sweeplab.execution.link import Message
from sweeplab.execution.worker_handle import Event
from sweeplab.planning.fit import MemoryGate
from sweeplab.records.record import LargerBatch, Status, TrialRecord, metric_value
from sweeplab.records.store import write_record
from sweeplab.report.evidence.formatting import DASH, label_metric
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.search import Search
from sweeplab.tracking.progress import StudyProgress
from sweeplab.tracking.tracker import Tracker

_MOST_IDLE_DEATHS: Final = 3  # of each worker, where none has a trial to blame


class StudyStopped(Exception):
    """The study ends early, as its configuration asks for; the message says why."""


@dataclass
class _Assignment:
    """What a worker was sent: trials that start together, and those that followed ended ones."""

    cohort: list[TrialSpec]
    is_retry: bool = False
    running: dict[int, TrialSpec] = field(default_factory=dict)


def format_objectives(record: TrialRecord, config: StudyConfig) -> str:
    """The objectives' values, under the names that tables give them."""
    values = ((label_metric(metric), metric_value(record, metric)) for metric in config.study.objectives)
    return "  ".join(f"{label} {DASH if value is None else f'{value:.4g}'}" for label, value in values)


def _record_lost(spec: TrialSpec, death: Message) -> TrialRecord:
    """The record of a trial that killed its worker, alone and twice."""
    return spec.new_record(Status(death["status"]), death["reason"])


def halve_micro_batch(training: TrainingConfig) -> TrainingConfig | None:
    """Micro-batches of at most half the size, as many examples per optimizer step; None where each device has one."""
    window, count = training.micro_batch_size * training.accumulation, training.num_devices
    sizes = [size for size in range(training.micro_batch_size // 2, 0, -1) if window % size == 0 == size % count]
    return training.replaced(micro_batch_size=sizes[0], accumulation=window // sizes[0]) if sizes else None


class Scheduler:
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
        self.builder = CohortBuilder(self._compose_trials(), request.config)
        self.retries: deque[_Assignment] = deque()  # what is to be run before anything new
        self.assignments: dict[int, _Assignment] = {}  # by worker
        self.larger_batches: dict[int, list[LargerBatch]] = {}  # that a trial was tried with before, by number
        self.num_failed_in_a_row = 0
        self.num_idle_deaths = 0  # in a row

    def run(self) -> None:
        """Raises `ConfigError`, `StoreError` and `StudyStopped`."""
        while self._dispatch():
            self.handle_event(self.executor.next_event())

    def handle_event(self, event: Event) -> None:
        """Raises `ConfigError` for what a worker refuses, and as `run`."""
        if event.message["kind"] == "refused":
            raise ConfigError(event.message["message"])
        if event.worker in self.assignments:
            self._handle_message(event, self.assignments[event.worker])
        elif event.message["kind"] == "died":
            self._replace_idle(event)

    def _dispatch(self) -> bool:
        """Gives every idle worker a cohort while there are trials; True while there is something to wait for."""
        idle = [worker for worker in range(self.executor.num_workers) if worker not in self.assignments]
        share = len(idle)  # one that is not ready yet will want its own
        for worker in filter(self.executor.is_ready, idle):
            assignment = self._next_assignment(share)
            share -= 1
            if assignment.cohort:
                self.assignments[worker] = assignment
                self.executor.submit(worker, [self._start_trial(spec, assignment) for spec in assignment.cohort])
        if not self.assignments and (assignment := self._next_assignment(max(1, share))).cohort:
            self.retries.appendleft(assignment)  # for the first worker that is ready
        return bool(self.assignments or self.retries)

    def _next_assignment(self, num_idle: int) -> _Assignment:
        return self.retries.popleft() if self.retries else _Assignment(self.builder.build_cohort(num_idle))

    def _compose_trials(self) -> Iterator[TrialSpec]:
        """Trials that the search asks for, without those that do not fit."""
        for spec in self.search.ask_all():
            if spec.refusal is not None:
                self._announce(spec)
                self._store(spec.new_record(Status.REFUSED, spec.refusal))
            elif skipped := self.gate.skipped(spec):
                self._announce(spec)
                self._store(skipped)
            else:
                yield spec

    def _start_trial(self, spec: TrialSpec, assignment: _Assignment) -> Message:
        """The trial as the worker receives it."""
        assignment.running[spec.number] = spec
        self._announce(spec)
        return spec.to_dict()

    def _announce(self, spec: TrialSpec) -> None:
        """Tells those who watch that it starts."""
        self.progress.started(spec.number, spec.params, spec.seed)
        self.tracker.started(spec.number, spec.params, spec.seed, spec.config)

    def _handle_message(self, event: Event, assignment: _Assignment) -> None:
        """What a worker reports of its assignment."""
        message = event.message
        match message["kind"]:
            case "observed":
                self.handle_observation(event.worker, message)
            case "notice":
                self.progress.say(message["text"])
            case "ended":
                ended = assignment.running.pop(message["record"]["number"])
                self._handle_end(ended, TrialRecord.from_dict(message["record"]))
                refill = self.builder.find_refill(ended) if not self.retries else []
                self.executor.refill(event.worker, [self._start_trial(spec, assignment) for spec in refill])
            case "done":
                del self.assignments[event.worker]
            case "died":
                self.num_idle_deaths = 0
                del self.assignments[event.worker]
                self.executor.restart(event.worker)
                self._quarantine(assignment, message)

    def handle_observation(self, worker: int, message: Message) -> None:
        number, step, values = message["number"], message["step"], message["values"]
        self.progress.observed(number, step, values)
        self.tracker.observed(number, step, values)
        if self.config.pruner.name != "none" and "heldout_loss" in values:
            self.executor.send_verdict(worker, self.search.report(number, step, values["heldout_loss"]))

    def _quarantine(self, assignment: _Assignment, death: Message) -> None:
        """Sets aside the trials whose worker died: they run together once more, then in halves, which find the one that
        kills its worker; that one is recorded as lost."""
        trials = list(assignment.running.values())
        self.tracker.interrupted(assignment.running)  # their steps begin again, which one W&B run cannot hold
        if not trials:  # an empty cohort would kill its worker again, without end
            return
        middle = len(trials) // 2
        is_refill = len(trials) == 1 and trials[0] not in assignment.cohort
        if death["taken"]:
            self.retries.appendleft(_Assignment(trials, assignment.is_retry))
        elif not assignment.is_retry or is_refill:  # a refill has a retry of its own
            self.retries.appendleft(_Assignment(trials, is_retry=True))
        elif middle:
            self.retries.extendleft(_Assignment(half, is_retry=True) for half in (trials[middle:], trials[:middle]))
        else:
            self._store(_record_lost(trials[0], death))

    def _replace_idle(self, event: Event) -> None:
        """Replaces a worker that died without trials, unless one after another does."""
        message = event.message
        self.num_idle_deaths += not message["taken"]
        if self.num_idle_deaths == _MOST_IDLE_DEATHS * self.executor.num_workers:
            raise StudyStopped(f"workers end before they can begin: {message['reason']}")
        self.executor.restart(event.worker)

    def _handle_end(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Stores what a worker reports of a trial, unless it is tried again with smaller micro-batches.

        Raises `ConfigError` for a refusal before anything else came of the study: it may be every trial's, and nothing
        is lost by ending here.
        """
        if record.status is Status.REFUSED and not self.search.has_results:
            raise ConfigError(str(record.reason))
        record.larger_batches = self.larger_batches.pop(spec.number, [])
        if record.status is not Status.OUT_OF_MEMORY:
            self._store(record)
            return
        policy, training = self.config.executor.on_out_of_memory, spec.config.training
        smaller = halve_micro_batch(training) if policy == "halve" else None
        if smaller is None:
            self._store(record)
            if policy == "stop":
                raise StudyStopped(f"trial {record.number} ran out of memory, and executor.on_out_of_memory=stop")
            return
        tried = LargerBatch(training.micro_batch_size, training.accumulation, str(record.reason))
        self.progress.say(
            f"trial {record.number}: out of memory; again with training.micro_batch_size={smaller.micro_batch_size} "
            f"and training.accumulation={smaller.accumulation}"
        )
        self.tracker.interrupted([record.number])
        self.larger_batches[spec.number] = [*record.larger_batches, tried]
        self.retries.append(_Assignment([replace(spec, config=spec.config.replaced(training=smaller))]))

    def _store(self, record: TrialRecord) -> None:
        """Writes a trial's record, and tells of it. Raises `StoreError`, and `StudyStopped` after too many failures."""
        write_record(self.folder, record)
        self.tracker.ended(record)
        self._tell(record)
        failed = record.status in (Status.FAILED, Status.TIMED_OUT)
        self.num_failed_in_a_row = self.num_failed_in_a_row + 1 if failed else 0
        if self.num_failed_in_a_row == self.config.study.max_failures:
            raise StudyStopped(
                f"{self.num_failed_in_a_row} trials failed one after another (study.max_failures), the last: "
                f"{record.reason}"
            )

    def _tell(self, record: TrialRecord) -> None:
        """Tells the search and those who watch how a trial ended."""
        self.search.tell(record)
        self.progress.ended(record, format_objectives(record, self.config))
