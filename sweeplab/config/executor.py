"""Where trials run, and how many at once."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class ExecutorConfig:
    name: str = MISSING  # local | ray | slurm
    device: str = MISSING  # auto | cpu | cuda
    num_workers: Any = MISSING  # processes, each with a base of its own: auto, or a number
    num_threads: int | None = None  # of each worker; null: the cores divided among them
    cohort_size: Any = MISSING  # trials that train at once on one base: auto, or a number
    checkpoint_seconds: float | None = None  # between checkpoints of running trials; null: none are kept
    trial_seconds: float | None = None  # that a trial may train, in a cohort the cohort's time; null: no limit
    stall_seconds: float | None = None  # without a forward pass, after which a worker is replaced; null: never
    on_out_of_memory: str = MISSING  # skip | halve | stop
    address: str | None = None  # ray: of the cluster's head, null: this machine alone; slurm: of the driver
    cpus_per_worker: int = 1  # that ray or slurm sets aside
    gpus_per_worker: float = 1  # that ray or slurm sets aside; on a Ray cluster without any, none
    partition: str | None = None  # of slurm; null: its default
    timeout_minutes: int = 60  # of a slurm job, after which it is requeued and its trials go on
    sbatch: dict[str, Any] = field(default_factory=dict)  # more of sbatch's options, such as account or mem
