"""Where workers run: how many of them, on which device, with how many threads. Asks without importing torch."""

import os
import subprocess
from itertools import takewhile
from typing import Final, NamedTuple

from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.model import LocalModel, ModelConfig
from sweeplab.config.search_rules import LEARNING, constraint_bounds
from sweeplab.config.study import StudyConfig
from sweeplab.records.metrics import SOLO_METRICS
from sweeplab.runtime.errors import refuse
from sweeplab.runtime.paths import expand_home

# matrices of such a base are too small for two threads to share: two workers of one thread each took 31.5 ms for a
# trial's forward and backward on the embedded base where one worker of two threads took 39.8
_SMALL_BASE_BYTES: Final = 50_000_000
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


class Placement(NamedTuple):
    """Of one worker."""

    executor: ExecutorConfig  # with the threads that are its share
    gpu: str | None  # as CUDA_VISIBLE_DEVICES takes it; None: whatever the environment says
    num_devices: int = 1  # that its model is on, each with a process


def list_visible_gpus() -> list[str]:
    """NVIDIA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        devices = [one.strip() for one in named.split(",") if one.strip()]
        return list(takewhile(lambda one: not one.startswith("-"), devices))  # CUDA too ends at the first one below 0
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # no driver, so no device
        return []
    return [str(place) for place, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_small(model: ModelConfig) -> bool:
    """True for a base whose weights are known to take little; of a hub's model nothing is known before it is loaded."""
    if model.source == "embedded":
        return True
    if not isinstance(model, LocalModel) or model.random_init:
        return False
    return sum(path.stat().st_size for path in expand_home(model.path).glob("*.safetensors")) <= _SMALL_BASE_BYTES


def needs_quiet(config: StudyConfig) -> bool:
    """True where trials at the same time would change what the study is about, their own time or memory."""
    return any(metric.startswith((*SOLO_METRICS, "solo.")) for metric in config.study.objectives)


def is_order_dependent(config: StudyConfig) -> bool:
    """True for a sampler or a pruner whose next word depends on which trial came first."""
    return config.sampler.name in LEARNING or config.pruner.name not in ("none", "patient")


def _count_cpu_workers(config: StudyConfig) -> int:
    """One for each core where the base is small. What depends on the order of ends stays with one, to be repeatable."""
    if needs_quiet(config) or is_order_dependent(config) or not _is_small(config.model):
        return 1
    return max(1, count_cores() // config.training.num_devices)


def _group_gpus(gpus: list[str], count: int) -> list[str]:
    """`count` GPUs for each worker, as CUDA_VISIBLE_DEVICES takes them. Raises `ConfigError` where there are fewer."""
    if gpus and count > len(gpus):
        there = f"must be at most the {len(gpus)} GPUs that are here"
        raise refuse("training.num_devices", there, count, "use fewer, or executor.device=cpu")
    return [",".join(gpus[start : start + count]) for start in range(0, len(gpus) - count + 1, count)]


def _refuse_unmeasured_memory(config: StudyConfig, on_gpu: bool) -> None:
    """Raises `ConfigError` for an objective or a constraint on memory that workers of this machine do not measure."""
    others = ("peak_resident_bytes",) if on_gpu else ("peak_allocated_bytes", "peak_reserved_bytes")
    remedy = f"use one of {'peak_allocated_bytes' if on_gpu else 'peak_resident_bytes'}"
    constrained = [metric for metric, _ in constraint_bounds(config.study.constraints)]
    for key, metrics in (("study.objectives", config.study.objectives), ("study.constraints", constrained)):
        for metric in metrics:
            if metric.rpartition(".")[2] in others:
                raise refuse(key, f"must be measured on a {'GPU' if on_gpu else 'CPU'}", metric, remedy)


def choose_placements(config: StudyConfig) -> list[Placement]:
    """The workers that `executor.num_workers` asks for; `auto` takes every GPU, or what suits a CPU.

    Raises `ConfigError` for a model on more GPUs than there are, and for an objective on memory that is not measured
    where the workers run.
    """
    executor, num_devices = config.executor, config.training.num_devices
    gpus = [] if executor.device == "cpu" else _group_gpus(list_visible_gpus(), num_devices)
    _refuse_unmeasured_memory(config, on_gpu=bool(gpus))
    count = executor.num_workers
    if count == "auto":
        count = 1 if gpus and needs_quiet(config) else len(gpus) or _count_cpu_workers(config)
    if gpus:
        return [Placement(executor, gpus[number % len(gpus)], num_devices) for number in range(count)]
    threads = executor.num_threads or (max(1, count_cores() // count) if count > 1 else None)
    return [Placement(executor.replaced(num_threads=threads), None, num_devices) for _ in range(count)]
