"""The scheduler: sends cohorts of trials to workers, stores their records and reports them to the search."""

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sweeplab.config.compose import Request
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution.budget import Budget, TrialCost
from sweeplab.execution.cohorts import CohortBuilder, halve_micro_batch
from sweeplab.execution.executor import Executor
from sweeplab.execution.link import Message
from sweeplab.execution.wishes import WISHED, StudyStopped, Wishes, record_unstarted
from sweeplab.execution.worker_handle import Event
from sweeplab.planning.fit import MemoryGate
from sweeplab.records.claim import fingerprint_claim
from sweeplab.records.record import LargerBatch, Status, TrialRecord, metric_value
from sweeplab.records.store import write_record
from sweeplab.report.evidence.formatting import DASH, label_metric
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.search import Search
from sweeplab.tracking.progress import WORK_FIELDS, StudyProgress
from sweeplab.tracking.tracker import Tracker

_MOST_IDLE_DEATHS: Final = 3  # for each worker: deaths one after another of workers that had no trial


@dataclass
class _Assignment:
    """The trials of one worker: those that started together, and refills that replaced ended ones."""

    cohort: list[TrialSpec]
    is_retry: bool = False  # the trials were running in a worker that died
    running: dict[int, TrialSpec] = field(default_factory=dict)  # without a record yet, refills included, by number


def _format_objectives(record: TrialRecord, config: StudyConfig) -> str:
    """The values of the objectives with the names that tables use, for the line of a trial in the terminal."""
    values = ((label_metric(metric), metric_value(record, metric)) for metric in config.study.objectives)
    return "  ".join(f"{label} {DASH if value is None else f'{value:.4g}'}" for label, value in values)


class Scheduler:
    """Runs the trials of a search on the workers of an executor until there are no more."""

    def __init__(
        self,
        request: Request,
        folder: Path,
        search: Search,
        executor: Executor,
        tracker: Tracker,
        progress: StudyProgress,
        budget: Budget,
    ) -> None:
        self.request = request
        self.config = request.config
        self.folder = folder
        self.search = search
        self.executor = executor
        self.tracker = tracker
        self.progress = progress
        self.gate = MemoryGate(request.config)
        self.budget = budget
        self.wishes = Wishes(folder, search, progress.say)
        self.builder = CohortBuilder(self._ask, request.config)
        self.retries: deque[_Assignment] = deque()  # to be run before new trials
        self.assignments: dict[int, _Assignment] = {}  # by worker
        self.larger_batches: dict[int, list[LargerBatch]] = {}  # micro-batches that did not fit, by trial number
        self.num_failed_in_a_row = 0
        self.num_idle_deaths = 0  # one after another

    def run(self) -> None:
        """Runs until no trial is left. Raises `ConfigError`, `StoreError` and `StudyStopped`."""
        with self.wishes.noticed(self.executor.events.put):
            self.heed_wishes()
            while self._goes_on():
                self.handle_event(self.executor.next_event())
        if self.budget.why_over is not None and not self.search.is_over():
            raise StudyStopped(f"{self.budget.why_over}; with a larger one the study goes on")

    def handle_event(self, event: Event) -> None:
        """Reacts to an event of a worker. Raises as `run`; a `ConfigError` also for what a worker refuses."""
        if event is WISHED:
            self.heed_wishes()
        elif event.message["kind"] == "refused":
            raise ConfigError(event.message["message"])
        elif event.worker in self.assignments:
            self._handle_message(event, self.assignments[event.worker])
        elif event.message["kind"] == "died":
            self._replace_idle(event)

    def _goes_on(self) -> bool:
        if self._dispatch():
            return True
        self.heed_wishes()  # what came at the last moment
        return self._dispatch()

    def heed_wishes(self) -> None:
        """Does what a person asked for since. A trial that no worker has is recorded when its turn would come.

        Raises `StudyStopped` and `StoreError`.
        """
        for number in self.wishes.read():
            for worker, assignment in self.assignments.items():
                if number in assignment.running:
                    self.executor.stop_trial(worker, number)
        self.progress.plan(self.search.num_planned)

    def _dispatch(self) -> bool:
        """Gives every idle worker a cohort while there are trials; False once there is nothing to wait for."""
        if self.budget.lacks_forecast:
            return self._ask_forecast() or self._dispatch()
        idle = [worker for worker in range(self.executor.num_workers) if worker not in self.assignments]
        num_idle = len(idle)  # workers that are still starting count, too: they will need trials
        for worker in filter(self.executor.is_ready, idle):
            assignment = self._next_assignment(num_idle)
            num_idle -= 1
            if assignment.cohort:
                self.assignments[worker] = assignment
                self.executor.submit(worker, [self._start_trial(spec, assignment) for spec in assignment.cohort])
        if not self.assignments and (assignment := self._next_assignment(max(1, num_idle))).cohort:
            self.retries.appendleft(assignment)  # for the first worker that is ready
        return bool(self.assignments or self.retries)

    def _ask_forecast(self) -> bool:
        """Has a worker forecast the first trial, before any begins; true while that is waited for."""
        if self.assignments:
            return True
        worker = next(filter(self.executor.is_ready, range(self.executor.num_workers)), None)
        if worker is None:
            return True
        if (spec := self._ask()) is None:
            self.budget.lacks_forecast = False
            return False
        self.builder.queue.append(spec)
        self.assignments[worker] = _Assignment([])
        self.executor.submit(worker, [spec.to_dict()], only_forecast=True)
        return True

    def _next_assignment(self, num_idle: int) -> _Assignment:
        while True:
            one = self.retries.popleft() if self.retries else _Assignment(self.builder.build_cohort(num_idle))
            left = self._leave_out_stopped(one.cohort)
            if left or not one.cohort:
                return replace(one, cohort=left)

    def _leave_out_stopped(self, specs: list[TrialSpec]) -> list[TrialSpec]:
        """Those that are to train; the others, which a person stopped before a worker had them, get their records."""
        stopped = {spec.number: spec for spec in specs if spec.number in self.wishes.to_stop}
        for spec in stopped.values():
            self._announce(spec)
            self._store(record_unstarted(spec))
        return [spec for spec in specs if spec.number not in stopped]

    def _ask(self) -> TrialSpec | None:
        """The next trial of the search, or None; one that cannot run or will not fit gets a record at once."""
        while self.budget.allows_another() and (spec := self.search.ask()) is not None:
            if spec.refusal is not None:
                self._announce(spec)
                self._store(spec.new_record(Status.REFUSED, spec.refusal))
            elif skipped := self.gate.skipped(spec):
                self._announce(spec)
                self._store(skipped)
            else:
                self.budget.begin(spec.number)
                return spec
        return None

    def _start_trial(self, spec: TrialSpec, assignment: _Assignment) -> Message:
        """Marks a trial as running and announces it; returns the message for the worker."""
        assignment.running[spec.number] = spec
        self._announce(spec)
        return spec.to_dict()

    def _announce(self, spec: TrialSpec) -> None:
        """Tells the display and the tracker that a trial starts."""
        self.progress.started(spec.number, spec.params, spec.seed)
        self.tracker.started(spec.number, spec.params, spec.seed, spec.config)

    def _handle_message(self, event: Event, assignment: _Assignment) -> None:
        """Reacts to a message of a worker that has an assignment."""
        message = event.message
        match message["kind"]:
            case "observed":
                self.handle_observation(event.worker, message)
            case "doing":
                self.progress.doing(event.worker, **{name: message[name] for name in WORK_FIELDS})
            case "notice":
                self.progress.say_once(message["text"])
            case "forecast":
                self.budget.note_forecast(TrialCost(message["seconds"], message["tokens"]))
            case "ended":
                ended = assignment.running.pop(message["record"]["number"])
                self._handle_end(ended, TrialRecord.from_dict(message["record"]))
                refill = self._leave_out_stopped(self.builder.find_refill(ended)) if not self.retries else []
                self.executor.refill(event.worker, [self._start_trial(spec, assignment) for spec in refill])
            case "done":
                self.progress.rests(event.worker)
                del self.assignments[event.worker]
                self.budget.lacks_forecast = False
            case "died":
                self.budget.lacks_forecast = False
                self.num_idle_deaths = 0
                self.progress.rests(event.worker)
                del self.assignments[event.worker]
                self.executor.restart(event.worker)
                self._quarantine(assignment, message)

    def handle_observation(self, worker: int, message: Message) -> None:
        """Passes metrics of a trial on; where a pruner is on, answers a held-out loss with its verdict."""
        number, step, values = message["number"], message["step"], message["values"]
        self.progress.observed(number, step, values)
        self.tracker.observed(number, step, values)
        if self.config.pruner.name != "none" and "heldout_loss" in values:
            self.executor.send_verdict(
                worker, self.search.report(number, step, values["heldout_loss"], int(values["num_steps"]))
            )

    def _quarantine(self, assignment: _Assignment, death: Message) -> None:
        """Queues the trials of a worker that died for another run.

        They run together once more. If that worker dies too, they run in halves, and so on, until the trial that kills
        its worker is the only one; it gets a record of its failure.
        """
        self.tracker.interrupted(assignment.running)  # steps start again from an earlier one, which W&B does not allow
        trials = self._leave_out_stopped(list(assignment.running.values()))
        if not trials:  # an empty cohort would be retried forever
            return
        middle = len(trials) // 2
        is_refill = len(trials) == 1 and trials[0] not in assignment.cohort
        if death["taken"]:
            self.retries.appendleft(_Assignment(trials, assignment.is_retry))
        elif not assignment.is_retry or is_refill:  # a refill has not been retried yet
            self.retries.appendleft(_Assignment(trials, is_retry=True))
        elif middle:
            self.retries.extendleft(_Assignment(half, is_retry=True) for half in (trials[middle:], trials[:middle]))
        else:
            self._store(trials[0].new_record(Status(death["status"]), death["reason"]))

    def _replace_idle(self, event: Event) -> None:
        """Starts a new worker for one that died without a trial. Raises `StudyStopped` after too many in a row."""
        message = event.message
        self.num_idle_deaths += not message["taken"]
        if self.num_idle_deaths == _MOST_IDLE_DEATHS * self.executor.num_workers:
            raise StudyStopped(f"workers end before they can start a trial: {message['reason']}")
        self.executor.restart(event.worker)

    def _handle_end(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Stores the record of a trial; one that ran out of memory may run again with smaller micro-batches instead.

        Raises `ConfigError` for a setting that cannot run while the study has no other results: the mistake may be in
        every trial, and nothing is lost by stopping.
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
            f"trial {record.number}: out of memory; runs again with "
            f"training.micro_batch_size={smaller.micro_batch_size} and training.accumulation={smaller.accumulation}"
        )
        self.tracker.interrupted([record.number])
        self.larger_batches[spec.number] = [*record.larger_batches, tried]
        self.retries.append(_Assignment([replace(spec, config=spec.config.replaced(training=smaller))]))

    def _store(self, record: TrialRecord) -> None:
        """Writes a record and reports it to search, display and tracker.

        Raises `StoreError`, and `StudyStopped` after `study.max_failures` failures one after another.
        """
        record.provenance["claims"] = [fingerprint_claim(claim) for claim in self.config.claims]
        write_record(self.folder, record)
        self.budget.end(record)
        self.tracker.ended(record)
        self.search.tell(record)
        self.wishes.note_ended(record)
        self.progress.ended(record, _format_objectives(record, self.config))
        if record.status is Status.STOPPED:  # neither a failure nor the end of a row of them
            return
        failed = record.status in (Status.FAILED, Status.TIMED_OUT)
        self.num_failed_in_a_row = self.num_failed_in_a_row + 1 if failed else 0
        if self.num_failed_in_a_row == self.config.study.max_failures:
            raise StudyStopped(
                f"{self.num_failed_in_a_row} trials failed one after another (study.max_failures), the last: "
                f"{record.reason}"
            )
