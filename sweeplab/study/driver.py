"""The driver: opens a study's folder, search, worker and tracker, runs what is left of it, writes the report."""

from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from sweeplab.checks.searches import LISTING
from sweeplab.config import ConfigError, StudyConfig, TrialConfig
from sweeplab.records import Status, StudyFacts, direction
from sweeplab.report import write_report
from sweeplab.store import (
    make_folder,
    only_writer,
    read_facts,
    read_items,
    read_records,
    set_aside_unreadable,
    write_facts,
)
from sweeplab.study.compose import Request, trial_config
from sweeplab.study.executor import LocalExecutor
from sweeplab.study.extension import narrowed
from sweeplab.study.places import places
from sweeplab.study.progress import StudyProgress
from sweeplab.study.rounds import Rounds, Stopped
from sweeplab.study.samplers import check_space
from sweeplab.study.search import Search, forget_search, num_planned
from sweeplab.study.space import Axis, axes, grid
from sweeplab.study.storage import said_in_a_line
from sweeplab.study.summary import show_summary
from sweeplab.study.tracking import build_tracker


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
        claims=[asdict(claim) for claim in request.config.claims],
        retained_tasks=list(request.config.data.retained_tasks),
    )


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def refuse_changed(earlier: StudyFacts, now: StudyFacts, folder: Path) -> None:
    """A study goes on only as the same experiment; more seeds, trials and values of an axis are welcome.

    Raises `ConfigError`.
    """
    compared = ("config", "objectives")
    before, after = (dict(flat({part: getattr(facts, part) for part in compared})) for facts in (earlier, now))
    differing = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    changes = [f"{key.removeprefix('config.')} was {before.get(key)}, now {after.get(key)}" for key in differing]
    changes += narrowed(earlier.space, now.space)
    if changes:
        raise ConfigError(
            f"study.name={now.name} exists with another configuration ({'; '.join(changes[:3])}); "
            f"choose another study.name, or remove {folder} to start over"
        )


def planned_configs(request: Request, varied: list[Axis]) -> list[tuple[dict[str, Any], TrialConfig]]:
    """Every point of a grid, composed and checked before anything runs; the configured point for other samplers."""
    points = grid(varied) if request.config.sampler.name in LISTING else [{}]
    return [(point, trial_config(request.overrides, point)) for point in points]


class Driver:
    """Runs one study from where its folder stands."""

    def __init__(self, request: Request, console: Console) -> None:
        self.request = request
        self.config = request.config
        self.console = console
        self.folder = study_folder(self.config)
        self.varied = axes(self.config.space)
        self.facts = study_facts(request, self.varied)
        self.shared = self.config.study.storage is not None

    def begin(self) -> None:
        """Refuses another configuration's folder. A study without evidence may start over, differently."""
        earlier = read_facts(self.folder)
        for sentence in set_aside_unreadable(self.folder):
            self.console.print(Text(sentence), soft_wrap=True)
        if earlier is not None and (self.shared or any(self.folder.glob("trials/*/record.json"))):
            refuse_changed(earlier, self.facts, self.folder)
        elif not self.shared:
            forget_search(self.folder)

    def run(self) -> int:
        """Runs what is left of the study and reports; trials finished in all. Raises `ConfigError` and `StoreError`."""
        make_folder(self.folder)
        with nullcontext() if self.shared else only_writer(self.folder):
            self.begin()
            return self.go_on()

    def refuse_other_folder(self, search: Search) -> None:
        """A database's trials have their records in one folder, which every driver sees. Raises `ConfigError`."""
        numbers = [int(path.name) for path in self.folder.glob("trials/*")]  # first: other drivers go on
        num_trials = len(search.own_trials())
        if (num_trials and read_facts(self.folder) is None) or max(numbers, default=-1) >= num_trials:
            raise ConfigError(
                f"study.storage has {num_trials} trials of {self.facts.name}, which are not those of {self.folder}; "
                "drivers of one study share study.runs_dir; give that folder, or choose another study.name"
            )

    def go_on(self) -> int:
        check_space(self.config, self.varied)
        with LocalExecutor(places(self.config), self.config.pruner.name != "none", self.folder) as executor:
            planned_configs(self.request, self.varied)
            self.tracker = build_tracker(self.config.tracking, self.facts.name, self.folder)
            search = Search(self.config, self.varied, self.folder)
            with closing(search.drivers), said_in_a_line():
                self.run_trials(search, executor)
        records, items = read_records(self.folder), read_items(self.folder) or None
        report = write_report(self.facts, records, Path(self.config.study.reports_dir) / self.facts.name, items)
        self.tracker.reported(report)
        show_summary(self.facts, records, items, self.folder, report, self.console)
        return sum(record.status is Status.FINISHED for record in records)

    def run_trials(self, search: Search, executor: LocalExecutor) -> None:
        if self.shared:
            self.refuse_other_folder(search)
        write_facts(self.folder, self.facts)
        with StudyProgress(search.num_planned, search.num_ended(), self.console) as progress:
            try:
                Rounds(self.request, self.folder, search, executor, self.tracker, progress).run()
            except Stopped as why:
                progress.say(f"Stopped: {why}. The same command goes on from here.")
            finally:
                self.tracker.interrupted()
        if search.backlog.num_left_out:
            progress.say(f"{search.backlog.num_left_out} trials left out: another seed of their setting was pruned")
