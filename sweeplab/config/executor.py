"""Where trials run, and how many at once: one class for each executor.name."""

from typing import Annotated, Any, Literal

from pydantic import Field

from sweeplab.records.section import Section, Text, key


def _count(meaning: str) -> Any:
    return key(meaning, rule="must be auto or a whole number from 1", remedy="try auto")


class ExecutorConfig(Section):
    """What every executor has."""

    name: str
    device: Literal["auto", "cpu", "cuda"] = key("where a worker computes; auto: a GPU where there is one")
    num_workers: Literal["auto"] | Annotated[int, Field(ge=1)] = _count(
        "number of workers; each loads the base for itself; auto: one for each GPU, and on a CPU one for each core "
        "where the base is small and nothing depends on the order of trials"
    )
    num_threads: int | None = key(
        "threads of each worker; null: the cores divided among them", None, ge=1, remedy="use null for one per core"
    )
    cohort_size: Literal["auto"] | Annotated[int, Field(ge=1)] = _count(
        "largest number of trials that train at once on one base"
    )
    checkpoint_seconds: float | None = key(
        "time between checkpoints of running trials, longer where writing them would take more than 5 % of it; 0: "
        "after every step; null: no checkpoints",
        None,
        ge=0,
        unit="seconds",
        remedy="use null for none",
    )
    trial_seconds: float | None = key(
        "longest time that a trial may train; in a cohort the time of the whole cohort counts; null: no limit",
        None,
        gt=0,
        unit="seconds",
        rule="must be a number above 0",
        remedy="use null for no limit",
    )
    stall_seconds: float | None = key(
        "time without a forward pass, after which a worker is replaced; null: never",
        None,
        gt=0,
        unit="seconds",
        rule="must be a number above 0",
        remedy="use null for no limit",
    )
    on_out_of_memory: Literal["skip", "halve", "stop"] = key(
        "skip: record the trial as out of memory; halve: run it again with half the micro-batch; stop: end the study"
    )


class LocalWorkers(ExecutorConfig):
    """Processes on this machine."""

    name: Literal["local"] = "local"


class ClusterWorkers(ExecutorConfig):
    """Processes on other machines."""

    cpus_per_worker: int = key("CPU cores that are set aside for a worker", 1, ge=1, remedy="try 1")


class RayWorkers(ClusterWorkers):
    """Actors of a Ray cluster."""

    name: Literal["ray"] = "ray"
    address: Text | None = key("address of the cluster's head, such as 10.0.0.1:6379; null: this machine alone", None)
    gpus_per_worker: float = key(
        "GPUs that are set aside for a worker; 0.5: two workers on one",
        1,
        unless="executor.device=cpu",
        ge=0,
        remedy="use 0 for none",
    )


class SlurmWorkers(ClusterWorkers):
    """Jobs of a Slurm array."""

    name: Literal["slurm"] = "slurm"
    num_workers: int = key("jobs", ge=1, rule="must be a number of jobs for executor=slurm", remedy="try 4")
    address: Text = key(
        "address at which Slurm's nodes reach the machine that starts the study",
        rule="must be what a job could call",
        remedy="give this machine's name",
    )
    gpus_per_worker: int = key(
        "GPUs of a job",
        1,
        unless="executor.device=cpu",
        ge=0,
        rule="must be a whole number for executor=slurm",
        remedy="try 1",
    )
    partition: Text | None = key("Slurm's partition; null: its default", None)
    timeout_minutes: int = key(
        "time limit of a job; then it is requeued, and its trials go on", 60, ge=1, unit="minutes", remedy="try 60"
    )
    sbatch: dict[str, Any] = key("more of sbatch's options, such as {account: NAME, mem: 32G}", {})


AnyExecutor = Annotated[LocalWorkers | RayWorkers | SlurmWorkers, Field(discriminator="name")]
