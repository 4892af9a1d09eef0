"""Cohort after cohort: trials go to the worker, their records come back and are stored and told."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from sweeplab.config import StudyConfig
from sweeplab.records import Status, TrialRecord, metric_value
from sweeplab.store import read_record, trial_folder, write_record
from sweeplab.study.compose import Request, trial_config
from sweeplab.study.executor import LocalExecutor, WorkerDied
from sweeplab.study.fit import Gate
from sweeplab.study.lineup import Lineup, Ready
from sweeplab.study.messages import Message, spec_to_dict
from sweeplab.study.progress import StudyProgress
from sweeplab.study.search import Search
from sweeplab.study.tracking import Tracker


def headline(record: TrialRecord, config: StudyConfig) -> str:
    """The objectives' values in words."""
    values = ((metric, metric_value(record, metric)) for metric in config.study.objectives)
    return "  ".join(f"{metric} {'–' if value is None else f'{value:.4g}'}" for metric, value in values)


def lost(one: Ready, reason: str) -> TrialRecord:
    """The record of a trial whose worker died, and died again."""
    asked = one.asked
    return TrialRecord(asked.number, Status.FAILED, asked.seed, asked.params, asdict(one.config), reason=reason)


class Rounds:
    """Runs the trials that a search asks for until it asks for no more."""

    def __init__(
        self,
        request: Request,
        folder: Path,
        search: Search,
        executor: LocalExecutor,
        tracker: Tracker,
        progress: StudyProgress,
    ) -> None:
        self.request = request
        self.folder = folder
        self.search = search
        self.executor = executor
        self.tracker = tracker
        self.progress = progress
        self.gate = Gate(request.config)
        self.lineup = Lineup(self.to_run(), request.config)
        self.running: dict[int, Ready] = {}

    def run(self) -> None:
        """Raises `ConfigError` and `StoreError`."""
        while cohort := self.lineup.cohort():
            self.run_cohort(cohort, retried=False)

    def to_run(self) -> Iterator[Ready]:
        """Trials that the search asks for, but for those that have a record already and those that do not fit."""
        for asked in self.search.asked():
            stored = trial_folder(self.folder, asked.number) / "record.json"
            config = trial_config(self.request.overrides, asked.params)
            if stored.exists():  # an earlier driver was stopped before it told the search
                self.progress.started(asked.number, asked.params, asked.seed)
                self.tell(read_record(stored))
            elif skipped := self.gate.skipped(asked, config):
                self.introduce(Ready(asked, config))
                self.end(skipped)
            else:
                yield Ready(asked, config)

    def run_cohort(self, cohort: list[Ready], retried: bool) -> None:
        """Runs trials to their records. A worker that dies costs one retry; then halves find the trial to blame."""
        self.running = {}
        specs = [self.start(one) for one in cohort]
        try:
            for message in self.executor.run(specs, self.newcomers):
                self.take(message)
        except WorkerDied as error:
            left = list(self.running.values())
            self.executor.restart()
            self.tracker.interrupted()  # their steps begin again, which one W&B run cannot hold
            if not left:
                return  # it died with nothing to do, and another one that does would go on for ever
            if not retried or (len(left) == 1 and left[0] not in cohort):  # a newcomer has a retry of its own
                self.run_cohort(left, retried=True)
            elif len(left) == 1:
                self.end(lost(left[0], str(error)))
            else:
                middle = len(left) // 2
                for half in (left[:middle], left[middle:]):
                    self.run_cohort(half, retried=True)

    def start(self, one: Ready) -> Message:
        """A trial as the worker takes it."""
        asked = one.asked
        self.running[asked.number] = one
        self.introduce(one)
        folder = trial_folder(self.folder, asked.number)
        return spec_to_dict(asked.number, asked.seed, asked.params, one.config, folder)

    def introduce(self, one: Ready) -> None:
        """To who watches."""
        asked = one.asked
        self.progress.started(asked.number, asked.params, asked.seed)
        self.tracker.started(asked.number, asked.params, asked.seed, one.config)

    def newcomers(self, number: int) -> list[Message]:
        """What takes the place of the trial `number`, which has ended."""
        ended = self.running.pop(number)
        return [self.start(one) for one in self.lineup.newcomer(ended)]

    def take(self, message: Message) -> None:
        """What the worker says."""
        if message["kind"] == "observed":
            number, step, values = message["number"], message["step"], message["values"]
            self.progress.observed(number, step, values)
            self.tracker.observed(number, step, values)
        elif message["kind"] == "said":
            self.progress.say(message["text"])
        else:
            self.end(TrialRecord.from_dict(message["record"]))

    def end(self, record: TrialRecord) -> None:
        write_record(self.folder, record)
        self.tracker.ended(record)
        self.tell(record)

    def tell(self, record: TrialRecord) -> None:
        self.search.tell(record)
        self.progress.ended(record, headline(record, self.request.config))
