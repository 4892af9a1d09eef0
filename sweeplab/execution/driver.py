"""The driver: opens the folder, search, workers and tracker of a study, runs its missing trials, writes the report."""

import re
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from sweeplab.config.compose import DEFAULT_NAME, Request, trial_config
from sweeplab.config.conf import is_group
from sweeplab.config.earlier import make_comparable
from sweeplab.config.sampler import FinalsSampler
from sweeplab.config.search_rules import RACES, constraint_bounds, find_within, list_fresh_seeds
from sweeplab.config.space import Axis, axes, flatten_keys
from sweeplab.config.study import study_folder
from sweeplab.evaluation.judge import refuse_unreachable_judge
from sweeplab.execution.budget import Budget
from sweeplab.execution.executor import Executor, open_executor
from sweeplab.execution.placement import describe_unused_gpu
from sweeplab.execution.scheduler import Scheduler
from sweeplab.execution.wishes import HandStop, StudyStopped, add_wished_seeds
from sweeplab.planning.early import refuse_early
from sweeplab.planning.probe import probe_models
from sweeplab.records.items import read_items
from sweeplab.records.lock import only_writer
from sweeplab.records.metrics import direction
from sweeplab.records.quarantine import StudyFiles, read_study, remove_partial_files
from sweeplab.records.record import RaceGoal, Status, StudyFacts, TrialRecord
from sweeplab.records.store import (
    make_folder,
    read_base_scores,
    read_facts,
    read_records,
    record_path,
    refuse_unwritable,
    set_aside,
    write_facts,
)
from sweeplab.report import write_index, write_report
from sweeplab.report.evidence.formatting import count_noun
from sweeplab.report.evidence.stored import StoredStudy
from sweeplab.report.findings.standing import describe_standing
from sweeplab.runtime.errors import ConfigError, write_value
from sweeplab.search.growth import list_lost_seeds, list_lost_values
from sweeplab.search.planned import compose_planned_points, count_planned_trials
from sweeplab.search.samplers import check_space
from sweeplab.search.search import Search
from sweeplab.search.settings import discard_search, has_changed_settings
from sweeplab.tracking.ending import show_ending
from sweeplab.tracking.foresight import foresee_seconds
from sweeplab.tracking.progress import StudyProgress
from sweeplab.tracking.tracker import ReportedStudy
from sweeplab.tracking.under_way import TimeLimit
from sweeplab.tracking.wandb_runs import build_tracker

_OBJECTIVES: Final = "study.objectives"


def _describe_study(request: Request, varied: list[Axis]) -> StudyFacts:
    study = request.config.study
    sampler, race = request.config.sampler, None
    if sampler.name in RACES:
        num_finalists = sampler.num_finalists if isinstance(sampler, FinalsSampler) else None
        race = RaceGoal(find_within(request.config), study.certainty, list_fresh_seeds(study), num_finalists)
    return StudyFacts(
        name=str(study.name),
        question=study.question,
        command=request.command,
        objectives={metric: direction(metric) for metric in study.objectives},
        seeds=study.seeds,
        space={axis.key: axis.spec() for axis in varied},
        num_planned=None if race else count_planned_trials(request.config, varied),
        config=request.config.trial_config().to_dict(),
        claims=[claim.model_dump() for claim in request.config.claims],
        retained_tasks=list(request.config.data.retained_tasks),
        constraints=dict(constraint_bounds(study.constraints)),
        race=race,
    )


def _suggest_name(now: StudyFacts, differing: list[str]) -> str:
    """A study name from the first value that has changed: `rank_8` for the default name, else such as `mine-rank_8`;
    for other objectives from the first one's name."""
    after = _flatten_facts(now)
    changed = next((key for key in differing if isinstance(after.get(key), str | int | float)), None)
    ending = "other" if changed is None else f"{changed.rpartition('.')[2]}_{write_value(after[changed])}"
    if changed is None and _OBJECTIVES in differing:
        ending = next(iter(now.objectives)).rpartition(".")[2].partition(",")[0]
    plain = re.sub(r"[^\w.-]+", "-", ending[:40], flags=re.ASCII).strip("-.")
    return plain if now.name == DEFAULT_NAME else f"{now.name}-{plain}"


def _list_differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """A sentence for each key of two flat configurations whose value differs; null is what a missing one stands for."""
    return {
        key: f"{key} was {write_value(before.get(key))}, now {write_value(after.get(key))}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    }


def _list_changes(earlier: StudyFacts, now: StudyFacts) -> dict[str, str]:
    """The changes that make this another experiment, as sentences by key. More seeds, more trials and more values of
    an axis are none."""
    changes = _list_differences(_flatten_facts(earlier), _flatten_facts(now))
    if earlier.objectives != now.objectives:
        were, are = (", ".join(facts.objectives) for facts in (earlier, now))
        changes[_OBJECTIVES] = f"{_OBJECTIVES} were {were}, now {are}"
    grown = [*list_lost_values(earlier.space, now.space), *list_lost_seeds(earlier.seeds, now.seeds)]
    return changes | {change: change for change in grown}


def _flatten_facts(facts: StudyFacts) -> dict[str, Any]:
    return dict(flatten_keys(make_comparable(facts.config)))


def _refuse_changed_study(earlier: StudyFacts, now: StudyFacts, folder: Path) -> None:
    """Raises `ConfigError` where the folder belongs to another experiment."""
    changes = _list_changes(earlier, now)
    if changes:
        raise ConfigError(
            f"study.name={now.name} exists with another configuration ({'; '.join([*changes.values()][:3])}); "
            f"add study.name={_suggest_name(now, [*changes])}, or remove {folder} to start over"
        )


def _refuse_foreign_records(records: list[TrialRecord], request: Request, folder: Path) -> None:
    """For a folder without study.json: raises `ConfigError` where its first record is of another experiment."""
    first = next((record for record in records if record.status is not Status.REFUSED), None)
    if first is None:
        return
    unfit = [key for key in first.params if key not in dict(flatten_keys(first.config)) and not is_group(key)]
    config = trial_config(request.overrides, first.params).to_dict() if not unfit else {}
    before, now = (dict(flatten_keys(make_comparable(one))) for one in (first.config, config))
    tried = ("training.micro_batch_size", "training.accumulation") if first.larger_batches else ()
    changes = [change for key, change in _list_differences(before, now).items() if key not in tried]
    if changes:
        raise ConfigError(
            f"study.name={folder.name} has records of another configuration ({'; '.join(changes[:3])}) and no "
            f"study.json; choose another study.name, or remove {folder} to start over"
        )


class Driver:
    """Runs one study; a study that was stopped goes on from the files in its folder."""

    def __init__(self, request: Request, console: Console) -> None:
        self.request = request
        self.config = request.config
        self.console = console
        self.folder = study_folder(self.config)
        self.varied = axes(self.config.space)
        self.facts = _describe_study(request, self.varied)

    def say(self, sentence: str) -> None:
        self.console.print(Text(sentence), soft_wrap=True)

    def open_folder(self) -> StudyFiles:
        """Reads the files of this study. A folder without records is reset where it was meant for another experiment.

        Raises `ConfigError` where the records are of another experiment, and `StoreError`.
        """
        remove_partial_files(self.folder)
        files = read_study(self.folder)
        if self.config.study.retry == "failed":
            files = self.set_failed_aside(files)
        for sentence in files.sentences:
            self.say(sentence)
        earlier = read_facts(self.folder)
        if earlier is not None and files.records:
            _refuse_changed_study(earlier, self.facts, self.folder)
        elif files.records:
            _refuse_foreign_records(files.records, self.request, self.folder)
        elif not self.is_same_experiment(earlier):
            discard_search(self.folder)
            return StudyFiles([], [], [])
        return files

    def set_failed_aside(self, files: StudyFiles) -> StudyFiles:
        """The study without the records of trials that failed or timed out: they run again under their numbers."""
        failed = [record for record in files.records if record.status in (Status.FAILED, Status.TIMED_OUT)]
        for record in failed:
            set_aside(record_path(self.folder, record.number))
        if failed:
            self.say(f"{count_noun(len(failed), 'failed trial')} will run again; the earlier records were set aside.")
        return files._replace(records=[record for record in files.records if record not in failed])

    def is_same_experiment(self, earlier: StudyFacts | None) -> bool:
        """True where the trials that an earlier run asked for belong to this experiment, too."""
        changed = (
            earlier is None or _list_changes(earlier, self.facts) or has_changed_settings(self.folder, self.config)
        )
        return not changed

    def run(self) -> int:
        """Runs the missing trials and writes the report; returns the number of finished trials of the whole study.

        Raises `ConfigError` and `StoreError`.
        """
        make_folder(self.folder)
        with only_writer(self.folder):
            return self.continue_from(self.open_folder())

    def continue_from(self, files: StudyFiles) -> int:
        """Raises as `run`: what needs no worker to be told is refused before one starts."""
        check_space(self.config, self.varied)
        reports = Path(self.config.study.reports_dir) / self.facts.name
        for folder in [reports, *([Path(path).parent] if (path := self.config.export.path) is not None else [])]:
            refuse_unwritable(folder)
        planned = compose_planned_points(self.request, self.varied)
        if not files.records:
            refuse_early(config for _, config in planned)
        if (sentence := describe_unused_gpu(self.config.executor)) is not None:
            self.say(sentence)
        self.tracker = build_tracker(self.config.tracking, self.facts.name, self.folder, self.say)
        with open_executor(self.config, self.folder) as executor:
            if not files.records:  # while workers start
                probe_models(config for _, config in planned)
            compose = partial(trial_config, self.request.overrides)
            with closing(Search(self.config, self.varied, self.folder, files, compose, self.say)) as search:
                self.run_trials(search, executor)
        records, items = read_records(self.folder), read_items(self.folder) or None
        stored = StoredStudy(self.facts, records, items, read_base_scores(self.folder))
        report = write_report(self.facts, records, reports, items, stored.bases)
        write_index(reports.parent)
        self.tracker.reported(ReportedStudy(self.facts, records, items, stored.bases, report))
        show_ending(stored, self.folder, report, self.console)
        return sum(record.status is Status.FINISHED for record in records)

    def note_planned(self, search: Search) -> None:
        """Writes study.json, with the seeds that a person added among the trials that are planned."""
        if self.facts.num_planned is not None:
            self.facts.num_planned = search.num_planned
        write_facts(self.folder, self.facts)

    def run_trials(self, search: Search, executor: Executor) -> None:
        """Runs the missing trials, or until the study is stopped."""
        add_wished_seeds(self.folder, search)
        self.note_planned(search)
        num_done, num_workers = search.num_ended(), executor.num_workers
        is_race = self.facts.race is not None
        if self.config.evaluation.score == "judge" and (is_race or num_done < search.num_planned):
            refuse_unreachable_judge(self.config.evaluation)
        budget = Budget(self.config.study, self.folder, search.records, num_workers)
        limit = None if budget.most_seconds is None else TimeLimit(budget.most_seconds, budget.seconds)
        find_standing = partial(describe_standing, self.facts)
        num_left, tasks = max(0, search.num_planned - num_done), self.config.evaluation.tasks
        foreseen = foresee_seconds(self.folder, search.records, num_left, num_workers, bool(tasks))
        with StudyProgress(
            search.num_planned,
            num_done,
            self.console,
            self.folder,
            num_workers,
            is_race,
            search.records,
            find_standing,
            limit,
            None if is_race else foreseen,
        ) as progress:
            try:
                Scheduler(self.request, self.folder, search, executor, self.tracker, progress, budget).run()
            except StudyStopped as reason:
                progress.goes_on = isinstance(reason, HandStop)
                progress.say(f"Stopped: {reason}. The same command continues the study.")
            finally:
                self.tracker.interrupted()
                self.note_planned(search)
        if not is_race and (num_left_out := search.queue.num_left_out):
            progress.say(f"{num_left_out} trials left out: another seed of their setting was pruned")
