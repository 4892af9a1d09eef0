"""A study that cannot run is refused here, before its first trial."""

import math
from pathlib import Path
from typing import Final

from sweeplab.config.actions import PlanConfig
from sweeplab.config.claim_rules import check_claims
from sweeplab.config.compatible import check_trial
from sweeplab.config.search_rules import check_constraints, check_pruner, check_sampler
from sweeplab.config.sizes import num_bytes
from sweeplab.config.study import StudyConfig
from sweeplab.config.tasks import check_objectives
from sweeplab.records.metrics import SOLO_METRICS
from sweeplab.runtime.errors import ConfigError, check_at_least, check_choice, refuse

MOST_SEED: Final = 2**32 - 1  # of NumPy's generator, and so of Lightning's `seed_everything`
LEAST_MEMORY_BYTES: Final = 10**6  # with less a unit was forgotten
EXPORT_DTYPES: Final = ("float32", "bfloat16", "float16")
ACTIONS: Final = ("run", "plan", "watch", "export", "reproduce", "analyze", "report", "compare")
READ_BY: Final = {"local": (), "ray": ("address",), "slurm": ("address", "partition", "sbatch")}


def check_export(config: StudyConfig) -> None:
    """Refuses an export that says too little or too much. Raises `ConfigError`."""
    export, trials = config.export, config.export.trials
    check_choice("export.kind", export.kind, ("adapter", "merged"))
    check_choice("export.dtype", export.dtype, EXPORT_DTYPES)
    check_choice("export.combination", export.combination, ("linear", "cat", "svd", "ties"))
    if (config.trial is None) == (not trials):
        raise ConfigError(
            f"action=export needs one of trial=N and export.trials=[N,M], got trial={config.trial} and "
            f"export.trials={trials}; give the number of a finished trial: trial=0"
        )
    if trials and len(set(trials)) < max(2, len(trials)):
        raise refuse("export.trials", "must be two or more different trials", trials, "use trial=N for one")
    if len(export.weights) != len(trials):
        rule = f"must be one number for each of export.trials={trials}"
        raise refuse("export.weights", rule, export.weights, "try [0.5,0.5]")
    if any(not math.isfinite(weight) or weight == 0 for weight in export.weights):
        raise refuse("export.weights", "must be numbers other than 0", export.weights, "leave the trial out")
    if export.path is None:
        raise ConfigError("export.path is missing; give a folder that is not there yet: export.path=DIR")
    if Path(export.path).exists():
        raise refuse("export.path", "must not exist yet", export.path, "choose another folder, or remove this one")


def check_cohort_size(config: StudyConfig) -> None:
    """Refuses trials at once where their own time or memory is the objective."""
    size = config.executor.cohort_size
    if size == "auto":
        return
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise refuse("executor.cohort_size", "must be auto or a whole number from 1", size, "try auto")
    solo = [metric for metric in config.study.objectives if metric.startswith(SOLO_METRICS)]
    if size > 1 and solo:
        rule = f"must be 1 for study.objectives={solo}, which a trial among others does not have for itself"
        raise refuse("executor.cohort_size", rule, size, "use executor.cohort_size=1")


def check_workers(config: StudyConfig) -> None:
    """Refuses numbers of workers and limits of time that make no sense. Raises `ConfigError`."""
    executor = config.executor
    count = executor.num_workers
    if count != "auto" and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
        raise refuse("executor.num_workers", "must be auto or a whole number from 1", count, "try auto")
    check_choice("executor.on_out_of_memory", executor.on_out_of_memory, ("skip", "halve", "stop"))
    for name in ("trial_seconds", "stall_seconds"):
        value = getattr(executor, name)
        if value is not None and not 0 < value < math.inf:
            raise refuse(f"executor.{name}", "must be a number above 0", value, "use null for no limit")


def check_fleet(config: StudyConfig) -> None:
    """Refuses what the executor does not read, and a share of a machine that makes no sense. Raises `ConfigError`."""
    executor = config.executor
    check_choice("executor.name", executor.name, tuple(READ_BY))
    for key in ("address", "partition", "sbatch"):
        if getattr(executor, key) and key not in READ_BY[executor.name]:
            readers = " and ".join(f"executor={name}" for name, keys in READ_BY.items() if key in keys)
            raise refuse(f"executor.{key}", f"is read by {readers} only", getattr(executor, key), "leave it out")
    check_at_least("executor.cpus_per_worker", executor.cpus_per_worker, 1, "try 1")
    check_at_least("executor.gpus_per_worker", executor.gpus_per_worker, 0, "use 0 for none")
    check_at_least("executor.timeout_minutes", executor.timeout_minutes, 1, "try 60")
    if executor.name != "slurm":
        return
    if executor.num_workers == "auto":
        raise refuse("executor.num_workers", "must be a number of jobs for executor=slurm", "auto", "try 4")
    if executor.gpus_per_worker != int(executor.gpus_per_worker):
        rule = "must be a whole number for executor=slurm"
        raise refuse("executor.gpus_per_worker", rule, executor.gpus_per_worker, "try 1")
    if executor.address is None:
        raise ConfigError("executor.address=null is nothing that a job could call; give this machine's name")


def check_plan(plan: PlanConfig) -> None:
    """Refuses a size that is none, and skipping without one. Raises `ConfigError`."""
    if plan.device_memory is not None:
        size = num_bytes("plan.device_memory", plan.device_memory)
        if size < LEAST_MEMORY_BYTES:
            given = f"{plan.device_memory}, which is {size} bytes"
            raise refuse("plan.device_memory", "must be at least 1MB", given, "write the unit too, such as 14GB")
    elif plan.skip_unfit:
        raise ConfigError(
            "plan.skip_unfit=true needs the memory that trials must fit in, got plan.device_memory=null; "
            "give it: plan.device_memory=14GB"
        )


def check_study(config: StudyConfig) -> None:
    """Refuses a study that cannot run. Raises `ConfigError`."""
    check_choice("action", config.action, ACTIONS)
    if config.action == "export":
        check_export(config)
    if config.action == "reproduce" and config.trial is None:
        raise ConfigError("action=reproduce needs the number of a recorded trial: trial=0")
    check_choice("executor.device", config.executor.device, ("auto", "cpu", "cuda"))
    check_choice("tracking.name", config.tracking.name, ("wandb", "none"))
    check_plan(config.plan)
    check_choice("tracking.mode", config.tracking.mode, ("offline", "online"))
    check_at_least("executor.num_threads", config.executor.num_threads, 1, "use null for one per core")
    check_cohort_size(config)
    check_workers(config)
    check_fleet(config)
    check_at_least("study.max_failures", config.study.max_failures, 1, "use null to go on")
    check_at_least("executor.checkpoint_seconds", config.executor.checkpoint_seconds, 0, "use null for none")
    check_at_least("study.num_trials", config.study.num_trials, 1, "use null for every point of a grid")
    if not config.study.seeds or len(set(config.study.seeds)) != len(config.study.seeds):
        raise refuse("study.seeds", "must be distinct whole numbers", config.study.seeds, "try study.seeds=[0,1,2]")
    if not all(0 <= seed <= MOST_SEED for seed in config.study.seeds):
        raise refuse("study.seeds", f"must be from 0 to {MOST_SEED}", config.study.seeds, "try study.seeds=[0,1,2]")
    check_objectives(config.study.objectives, config.evaluation.tasks)
    check_sampler(config)
    check_pruner(config)
    check_constraints(config)
    if config.action in ("run", "plan"):  # what only reads records takes them as they are
        check_claims(config.claims, config.space)
    strangers = [task for task in config.data.retained_tasks if task not in config.data.tasks]
    if strangers:
        rule = f"must be among data.tasks=[{', '.join(config.data.tasks)}]"
        raise refuse("data.retained_tasks", rule, strangers[0], "add it there, or drop it")
    name = config.study.name or ""
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name) or name.startswith("."):
        raise refuse("study.name", "must be letters, digits, '-', '_' or '.'", repr(name), "try study.name=my_study")
    check_trial(config)
    check_machines(config)


def check_machines(config: StudyConfig) -> None:
    """Refuses a worker of Ray or Slurm with another number of GPUs than its model has. Raises `ConfigError`."""
    executor, count = config.executor, config.training.num_devices
    if executor.name == "local" or executor.device == "cpu" or count == 1:
        return
    if executor.gpus_per_worker not in (0, count):
        rule = f"must be training.num_devices={count} for executor={executor.name}, or 0 for a CPU"
        raise refuse("executor.gpus_per_worker", rule, f"{executor.gpus_per_worker:g}", f"use {count}")
