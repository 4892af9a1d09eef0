"""A study that cannot run is refused here, before its first trial."""

import math
from pathlib import Path
from typing import Final

from sweeplab.config.claim_rules import check_claims, spaces_axes
from sweeplab.config.compatible import check_trial
from sweeplab.config.data import DataConfig
from sweeplab.config.executor import RayWorkers, SlurmWorkers
from sweeplab.config.judge_rules import check_judged_study
from sweeplab.config.search_rules import check_beginnings, check_constraints, check_pruner, check_sampler
from sweeplab.config.shared_base import why_exclusive
from sweeplab.config.study import StudyConfig
from sweeplab.config.tasks import check_objectives, check_task_names
from sweeplab.records.metrics import SOLO_METRICS
from sweeplab.runtime.errors import ConfigError, refuse, write_value

_MOST_SEED: Final = 2**32 - 1  # of NumPy's generator, and so of Lightning's `seed_everything`


def _check_export(config: StudyConfig) -> None:
    """Refuses an export that says too little or too much. Raises `ConfigError`."""
    export, trials = config.export, config.export.trials
    if (config.trial is None) == (not trials):
        raise ConfigError(
            f"action=export needs one of trial=N and export.trials=[N,M], got trial={write_value(config.trial)} and "
            f"export.trials={write_value(trials)}; give the number of a finished trial: trial=0, or trial=best"
        )
    if trials and len(set(trials)) < max(2, len(trials)):
        raise refuse("export.trials", "must be two or more different trials", trials, "use trial=N for one")
    if len(export.weights) != len(trials):
        rule = f"must be one number for each of export.trials={write_value(trials)}"
        raise refuse("export.weights", rule, export.weights, "try [0.5,0.5]")
    if any(not math.isfinite(weight) or weight == 0 for weight in export.weights):
        raise refuse("export.weights", "must be numbers other than 0", export.weights, "leave the trial out")
    if export.path is None:
        raise ConfigError("export.path is missing; give a folder that is not there yet: export.path=DIR")
    if Path(export.path).exists():
        raise refuse("export.path", "must not exist yet", export.path, "choose another folder, or remove this one")


def _check_cohort_size(config: StudyConfig) -> None:
    """Refuses trials at once where they must train alone, or where their own time or memory is the objective."""
    size = config.executor.cohort_size
    solo = [metric for metric in config.study.objectives if metric.startswith(SOLO_METRICS)]
    if size != "auto" and size > 1 and solo:
        rule = (
            f"must be 1 for study.objectives={write_value(solo)}, which a trial among others does not have for itself"
        )
        raise refuse("executor.cohort_size", rule, size, "use executor.cohort_size=1")
    why = why_exclusive(config)
    varied = {key.partition(".")[0] for key in spaces_axes(config.space)}
    if size != "auto" and size > 1 and why is not None and varied.isdisjoint(("adapter", "optimizer")):
        rule = f"has no effect on trials that train by themselves ({why})"
        raise refuse("executor.cohort_size", rule, size, "leave it out")


def _check_seeds(seeds: list[int], key: str = "study.seeds") -> None:
    if not seeds or len(set(seeds)) != len(seeds):
        raise refuse(key, "must be distinct whole numbers", seeds, f"try {key}=[0,1,2]")
    if not all(0 <= seed <= _MOST_SEED for seed in seeds):
        raise refuse(key, f"must be from 0 to {_MOST_SEED}", seeds, f"try {key}=[0,1,2]")


def _check_name(name: str) -> None:
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name) or name.startswith("."):
        raise refuse("study.name", "must be letters, digits, '-', '_' or '.'", repr(name), "try study.name=my_study")


def _check_retained(data: DataConfig) -> None:
    others = [task for task in data.retained_tasks if task not in data.tasks]
    if others:
        rule = f"must be among data.tasks=[{', '.join(data.tasks)}]"
        raise refuse("data.retained_tasks", rule, others[0], "add it there, or drop it")


def check_study(config: StudyConfig) -> None:
    """Refuses a study whose parts do not go together. Raises `ConfigError`."""
    if config.action == "export":
        _check_export(config)
    if config.action == "recommend" and config.export.path is not None:
        _check_export(config.model_copy(update={"trial": "best"}))
    if config.action in ("stop", "extend") and config.trial == "best":
        raise refuse("trial", f"must be a number with action={config.action}", "best", "see action=watch for numbers")
    if config.action == "extend" and config.extend.seeds:
        _check_seeds(config.extend.seeds, "extend.seeds")
    if config.action == "reproduce" and not isinstance(config.trial, int):
        raise ConfigError("action=reproduce needs the number of a recorded trial: trial=0")
    if config.action == "answers" and config.trial is None:
        raise ConfigError("action=answers needs a trial: trial=best, or its number")
    _check_cohort_size(config)
    _check_seeds(config.study.seeds)
    check_task_names(config.evaluation.tasks, config.evaluation.include_path)
    check_objectives(config.study.objectives, config.evaluation)
    check_sampler(config)
    check_pruner(config)
    check_constraints(config)
    if config.action in ("run", "recommend", "plan"):  # what only reads records takes them as they are
        check_claims(config.claims, config.space)
        check_beginnings(config)
    _check_retained(config.data)
    _check_name(config.study.name or "")
    check_trial(config)
    check_judged_study(config)
    _check_machines(config)


def _check_machines(config: StudyConfig) -> None:
    """Refuses a worker of Ray or Slurm with another number of GPUs than its model has. Raises `ConfigError`."""
    executor, count = config.executor, config.training.num_devices
    if not isinstance(executor, RayWorkers | SlurmWorkers) or executor.device == "cpu" or count == 1:
        return
    if executor.gpus_per_worker not in (0, count):
        rule = f"must be training.num_devices={count} for executor={executor.name}, or 0 for a CPU"
        raise refuse("executor.gpus_per_worker", rule, f"{executor.gpus_per_worker:g}", f"use {count}")
