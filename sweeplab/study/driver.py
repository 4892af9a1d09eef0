"""The driver: asks for trials, sends them to the worker, writes their records, tells the search, writes the report."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from sweeplab.config import ConfigError, StudyConfig, TrialConfig
from sweeplab.records import Status, StudyFacts, TrialRecord, direction, metric_value
from sweeplab.report import write_report
from sweeplab.store import (
    make_folder,
    only_writer,
    read_facts,
    read_record,
    read_records,
    trial_folder,
    write_facts,
    write_record,
)
from sweeplab.study.compose import trial_config
from sweeplab.study.executor import LocalExecutor, WorkerDied
from sweeplab.study.fit import Gate
from sweeplab.study.messages import spec_to_dict
from sweeplab.study.progress import StudyProgress
from sweeplab.study.search import Asked, Search, forget_search, num_planned
from sweeplab.study.space import Axis, axes, grid
from sweeplab.study.summary import show_summary
from sweeplab.study.tracking import Tracker, build_tracker


class Request(NamedTuple):
    """What the command line asked for."""

    config: StudyConfig
    overrides: list[str]  # as Hydra takes them, for composing trials
    command: str  # what a user types to run it again


def study_folder(config: StudyConfig) -> Path:
    return Path(config.study.runs_dir) / str(config.study.name)


def study_facts(request: Request, varied: list[Axis]) -> StudyFacts:
    study = request.config.study
    return StudyFacts(
        name=str(study.name),
        question=study.question,
        command=request.command,
        objectives={metric: direction(metric) for metric in study.objectives},
        seeds=study.seeds,
        space={axis.key: axis.spec() for axis in varied},
        num_planned=num_planned(request.config, varied),
        config=asdict(request.config.trial_config()),
    )


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def refuse_changed(earlier: StudyFacts, now: StudyFacts, folder: Path) -> None:
    """A study goes on only as the same experiment; more seeds or trials are welcome. Raises `ConfigError`."""
    compared = ("config", "space", "objectives")
    before, after = (dict(flat({part: getattr(facts, part) for part in compared})) for facts in (earlier, now))
    differing = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if differing:
        changes = "; ".join(
            f"{key.removeprefix('config.')} was {before.get(key)}, now {after.get(key)}" for key in differing[:3]
        )
        raise ConfigError(
            f"study.name={now.name} exists with another configuration ({changes}); "
            f"choose another study.name, or remove {folder} to start over"
        )


def planned_configs(request: Request, varied: list[Axis]) -> list[tuple[dict[str, Any], TrialConfig]]:
    """Every point of a grid, composed and checked before anything runs; the configured point for other samplers."""
    points = grid(varied) if request.config.sampler.name == "grid" else [{}]
    return [(point, trial_config(request.overrides, point)) for point in points]


def headline(record: TrialRecord, config: StudyConfig) -> str:
    """The objectives' values in words."""
    values = ((metric, metric_value(record, metric)) for metric in config.study.objectives)
    return "  ".join(f"{metric} {'–' if value is None else f'{value:.4g}'}" for metric, value in values)


def lost(asked: Asked, config: TrialConfig, reason: str) -> TrialRecord:
    """The record of a trial whose worker died twice."""
    return TrialRecord(asked.number, Status.FAILED, asked.seed, asked.params, asdict(config), reason=reason)


class Driver:
    """Runs one study from where its folder stands."""

    def __init__(self, request: Request, console: Console) -> None:
        self.request = request
        self.config = request.config
        self.console = console
        self.folder = study_folder(self.config)
        self.varied = axes(self.config.space)
        self.facts = study_facts(request, self.varied)
        self.gate = Gate(self.config)

    def begin(self) -> None:
        """Refuses another configuration's folder. A study without evidence may start over, differently."""
        earlier = read_facts(self.folder)
        if earlier is not None and read_records(self.folder):
            refuse_changed(earlier, self.facts, self.folder)
        else:
            forget_search(self.folder)

    def run(self) -> int:
        """Runs what is left of the study and reports; trials finished in all. Raises `ConfigError` and `StoreError`."""
        make_folder(self.folder)
        with only_writer(self.folder):
            self.begin()
            return self.go_on()

    def go_on(self) -> int:
        with LocalExecutor(self.config.executor, self.folder / "worker.log") as executor:
            planned_configs(self.request, self.varied)
            search = Search(self.config, self.varied, self.folder)
            write_facts(self.folder, self.facts)
            tracker = build_tracker(self.config.tracking, self.facts.name, self.folder)
            with StudyProgress(search.num_planned, search.num_ended(), self.console) as progress:
                try:
                    for asked in search.asked():
                        search.tell(self.record_of(asked, executor, tracker, progress))
                finally:
                    tracker.interrupted()
        records = read_records(self.folder)
        report = write_report(self.facts, records, Path(self.config.study.reports_dir) / self.facts.name)
        tracker.reported(report)
        show_summary(self.facts, records, self.folder, report, self.console)
        return sum(record.status is Status.FINISHED for record in records)

    def record_of(
        self, asked: Asked, executor: LocalExecutor, tracker: Tracker, progress: StudyProgress
    ) -> TrialRecord:
        """The trial's record: the stored one where an earlier driver was stopped after writing it, else a new one."""
        progress.started_trial(asked.number, asked.params, asked.seed)
        stored = trial_folder(self.folder, asked.number) / "record.json"
        record = read_record(stored) if stored.exists() else self.run_trial(asked, executor, tracker, progress)
        progress.ended(record, headline(record, self.config))
        return record

    def run_trial(
        self, asked: Asked, executor: LocalExecutor, tracker: Tracker, progress: StudyProgress
    ) -> TrialRecord:
        """Runs a trial in the worker, if it is to run, and stores its record. A worker that dies costs one retry."""
        config = trial_config(self.request.overrides, asked.params)
        tracker.started(asked.number, asked.params, asked.seed, config)
        skipped = self.gate.skipped(asked, config)
        try:
            record = skipped or self.attempt(asked, config, executor, tracker, progress)
        except WorkerDied:
            executor.restart()
            tracker.interrupted()  # its steps begin again, which one W&B run cannot hold
            tracker.started(asked.number, asked.params, asked.seed, config)
            try:
                record = self.attempt(asked, config, executor, tracker, progress)
            except WorkerDied as error:
                executor.restart()
                record = lost(asked, config, str(error))
        write_record(self.folder, record)
        tracker.ended(record)
        return record

    def attempt(
        self,
        asked: Asked,
        config: TrialConfig,
        executor: LocalExecutor,
        tracker: Tracker,
        progress: StudyProgress,
    ) -> TrialRecord:
        folder = trial_folder(self.folder, asked.number)
        for message in executor.run([spec_to_dict(asked.number, asked.seed, asked.params, config, folder)]):
            if message["kind"] == "observed":
                progress.observed(message["step"], message["values"])
                tracker.observed(message["step"], message["values"])
            else:
                record = TrialRecord.from_dict(message["record"])
        return record
