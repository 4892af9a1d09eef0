"""The driver: opens a study's folder, search, worker and tracker, runs what is left of it, writes the report."""

import re
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from sweeplab.config.compose import DEFAULT_NAME, Request, trial_config
from sweeplab.config.conf import is_group
from sweeplab.config.search_rules import constraint_bounds
from sweeplab.config.space import Axis, axes, flatten_keys
from sweeplab.config.study import study_folder
from sweeplab.execution.executor import Executor, open_executor
from sweeplab.execution.scheduler import Scheduler, StudyStopped
from sweeplab.records.items import read_items
from sweeplab.records.metrics import direction
from sweeplab.records.quarantine import StudyFiles, read_study, remove_partial_files
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.store import (
    make_folder,
    only_writer,
    read_base_scores,
    read_facts,
    read_records,
    write_facts,
)
from sweeplab.report import write_report
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.growth import list_lost_seeds, list_lost_values
from sweeplab.search.points import planned_configs
from sweeplab.search.samplers import check_space
from sweeplab.search.search import Search, num_planned
from sweeplab.search.settings import discard_search, has_changed_settings
from sweeplab.tracking.progress import StudyProgress, show_summary
from sweeplab.tracking.tracker import ReportedStudy
from sweeplab.tracking.wandb_runs import build_tracker


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
        config=request.config.trial_config().to_dict(),
        claims=[claim.model_dump() for claim in request.config.claims],
        retained_tasks=list(request.config.data.retained_tasks),
        constraints=dict(constraint_bounds(study.constraints)),
    )


def other_name(now: StudyFacts, after: dict[str, Any], differing: list[str]) -> str:
    """Such as `rank_8` for the default name, and `mine-rank_8` for another: after the first value that has changed."""
    changed = next((key for key in differing if isinstance(after.get(key), str | int | float)), None)
    ending = "other" if changed is None else f"{changed.rpartition('.')[2]}_{after[changed]}"
    plain = re.sub(r"[^\w.-]+", "-", ending[:40], flags=re.ASCII).strip("-.")
    return plain if now.name == DEFAULT_NAME else f"{now.name}-{plain}"


def list_changes(earlier: StudyFacts, now: StudyFacts) -> dict[str, str]:
    """What makes this another experiment, in words by key; more seeds, trials and values of an axis do not."""
    before, after = _flatten_facts(earlier), _flatten_facts(now)
    changes = {
        key: f"{key.removeprefix('config.')} was {before.get(key)}, now {after.get(key)}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    }
    grown = [*list_lost_values(earlier.space, now.space), *list_lost_seeds(earlier.seeds, now.seeds)]
    return changes | {change: change for change in grown}


def _flatten_facts(facts: StudyFacts) -> dict[str, Any]:
    return dict(flatten_keys({"config": facts.config, "objectives": facts.objectives}))


def refuse_changed(earlier: StudyFacts, now: StudyFacts, folder: Path) -> None:
    """Raises `ConfigError` for another experiment."""
    changes = list_changes(earlier, now)
    if changes:
        raise ConfigError(
            f"study.name={now.name} exists with another configuration ({'; '.join([*changes.values()][:3])}); "
            f"add study.name={other_name(now, _flatten_facts(now), [*changes])}, or remove {folder} to start over"
        )


def refuse_others_records(records: list[TrialRecord], request: Request, folder: Path) -> None:
    """Where study.json is gone, the first record says which experiment the folder is of. Raises `ConfigError`."""
    first = records[0]
    unfit = [key for key in first.params if key not in dict(flatten_keys(first.config)) and not is_group(key)]
    now = dict(flatten_keys(trial_config(request.overrides, first.params).to_dict())) if not unfit else {}
    before = dict(flatten_keys(first.config))
    tried = ("training.micro_batch_size", "training.accumulation") if first.larger_batches else ()
    differing = [key for key in {**before, **now} if key not in tried and before.get(key) != now.get(key)]
    if differing:
        changes = "; ".join(f"{key} was {before.get(key)}, now {now.get(key)}" for key in differing[:3])
        raise ConfigError(
            f"study.name={folder.name} has records of another configuration ({changes}) and no study.json; "
            f"choose another study.name, or remove {folder} to start over"
        )


class Driver:
    """Runs one study from where its folder stands."""

    def __init__(self, request: Request, console: Console) -> None:
        self.request = request
        self.config = request.config
        self.console = console
        self.folder = study_folder(self.config)
        self.varied = axes(self.config.space)
        self.facts = study_facts(request, self.varied)

    def say(self, sentence: str) -> None:
        self.console.print(Text(sentence), soft_wrap=True)

    def begin(self) -> StudyFiles:
        """What is there of this study. Refuses another experiment's records; without any it begins as another one."""
        remove_partial_files(self.folder)
        files = read_study(self.folder)
        for sentence in files.sentences:
            self.say(sentence)
        earlier = read_facts(self.folder)
        if earlier is not None and files.records:
            refuse_changed(earlier, self.facts, self.folder)
        elif files.records:
            refuse_others_records(files.records, self.request, self.folder)
        elif not self.is_same(earlier):
            discard_search(self.folder)
            return StudyFiles([], [], [])
        return files

    def is_same(self, earlier: StudyFacts | None) -> bool:
        """True where what was asked of an earlier run can be asked of this one."""
        changed = earlier is None or list_changes(earlier, self.facts) or has_changed_settings(self.folder, self.config)
        return not changed

    def run(self) -> int:
        """Runs what is left of the study and reports; trials finished in all. Raises `ConfigError` and `StoreError`."""
        make_folder(self.folder)
        with only_writer(self.folder):
            return self.go_on(self.begin())

    def go_on(self, files: StudyFiles) -> int:
        check_space(self.config, self.varied)
        with open_executor(self.config, self.folder) as executor:
            planned_configs(self.request, self.varied)
            self.tracker = build_tracker(self.config.tracking, self.facts.name, self.folder, self.say)
            compose = partial(trial_config, self.request.overrides)
            with closing(Search(self.config, self.varied, self.folder, files, compose, self.say)) as search:
                self.run_trials(search, executor)
        records, items = read_records(self.folder), read_items(self.folder) or None
        folder = Path(self.config.study.reports_dir) / self.facts.name
        report = write_report(self.facts, records, folder, items, read_base_scores(self.folder))
        self.tracker.reported(ReportedStudy(self.facts, records, items, report))
        show_summary(self.facts, records, items, self.folder, report, self.console)
        return sum(record.status is Status.FINISHED for record in records)

    def run_trials(self, search: Search, executor: Executor) -> None:
        """As many as are left, or until the study is stopped."""
        write_facts(self.folder, self.facts)
        num_done, num_workers = search.num_ended(), executor.num_workers
        with StudyProgress(search.num_planned, num_done, self.console, self.folder, num_workers) as progress:
            try:
                Scheduler(self.request, self.folder, search, executor, self.tracker, progress).run()
            except StudyStopped as why:
                progress.say(f"Stopped: {why}. The same command goes on from here.")
            finally:
                self.tracker.interrupted()
        if num_left_out := search.queue.num_left_out:
            progress.say(f"{num_left_out} trials left out: another seed of their setting was pruned")
