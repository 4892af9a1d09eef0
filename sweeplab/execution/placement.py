"""Decides how many workers run, on which devices and with how many threads. It does not import torch."""

import math
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.model import LocalModel, ModelConfig
from sweeplab.config.search_rules import LEARNING, list_asked_metrics
from sweeplab.config.study import StudyConfig
from sweeplab.records.metrics import SOLO_METRICS
from sweeplab.runtime.errors import refuse
from sweeplab.runtime.paths import expand_home

# The matrices of a base up to this size are too small to use two threads well: forward and backward of a trial on the
# embedded base took 31.5 ms with two workers of one thread each, and 39.8 ms with one worker of two threads.
_SMALL_BASE_BYTES: Final = 50_000_000
# metrics that a worker does not measure, and what to use. A CPU's tensors are counted in a few steps before training,
# since counting takes time.
_UNMEASURED_ON_GPU: Final = {
    "phases.train.peak_resident_bytes": "phases.train.peak_allocated_bytes",
    "solo.peak_resident_bytes": "solo.peak_allocated_bytes",
    "solo.evaluation_peak_allocated_bytes": "solo.peak_allocated_bytes",
    "solo.step_processor_seconds": "solo.step_seconds",
}
_UNMEASURED_ON_CPU: Final = dict.fromkeys(
    ("phases.train.peak_allocated_bytes", "phases.train.peak_reserved_bytes"), "solo.peak_allocated_bytes"
)
_MIG_UUID: Final = re.compile(r"\(UUID: (MIG-[^)]+)\)")
_OTHER_BUILDS: Final = {"hip": "AMD's GPU (ROCm)", "xpu": "Intel's GPU (XPU)"}  # by name in torch's version.py
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_BFLOAT16_SINCE: Final = 8.0  # compute capability; older cards compute it in float32, which gains nothing
_DRIVER_LIST: Final = Path("/proc/driver/nvidia/gpus")  # a folder for each device; not there without a driver
# of machines where nothing lists the GPU (WSL, Jetson, ROCm): the worker tells
_OTHER_NODES: Final = tuple(map(Path, ("/dev/nvidiactl", "/dev/dxg", "/dev/nvmap", "/dev/kfd")))


class Placement(NamedTuple):
    """Where one worker runs."""

    executor: ExecutorConfig  # with the number of threads of this worker
    gpu: str | None  # value of CUDA_VISIBLE_DEVICES; None: the environment's value stays
    num_devices: int = 1  # devices of its model, one process for each
    gpu_share: float = 1.0  # of a GPU's memory, for workers that share one


def list_visible_gpus() -> list[str]:
    """NVIDIA devices that this process may use, as CUDA_VISIBLE_DEVICES names them: by index, or by UUID, as the parts
    of a GPU in MIG mode. Of such a GPU an index would show its first part only."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        devices = [one.strip() for one in named.split(",") if one.strip()]
        return list(takewhile(lambda one: not one.startswith("-"), devices))  # CUDA, too, stops at a negative number
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # not installed, as in some containers; the driver's own list says it
        return [str(index) for index, _ in enumerate(_DRIVER_LIST.glob("*"))]
    found: list[list[str]] = []  # of each GPU its parts
    for line in listed.splitlines():
        part = _MIG_UUID.search(line)
        if line.startswith("GPU "):
            found.append([])
        elif part is not None and found:
            found[-1].append(part[1])
    return [name for index, parts in enumerate(found) for name in parts or [str(index)]]


def refuse_missing_gpu(executor: ExecutorConfig) -> None:
    """Raises `ConfigError` for a GPU that is asked for where there is none, or where torch was built without CUDA."""
    if executor.device != "cuda":
        return
    remedy = "use executor.device=cpu; action=plan plans for a GPU that is not here"
    hidden = os.environ.get(VISIBLE)
    if not list_visible_gpus() and (hidden is not None or not any(node.exists() for node in _OTHER_NODES)):
        why = "there is none here" if hidden is None else f"{VISIBLE}={hidden} shows none"
        raise refuse("executor.device", f"needs an NVIDIA GPU, and {why}", "cuda", remedy)
    if not _is_torch_with_cuda():
        raise refuse("executor.device", "needs a torch with CUDA, and the one installed is without", "cuda", remedy)


def describe_unused_gpu(executor: ExecutorConfig) -> str | None:
    """A sentence where executor.device=auto takes the CPU beside a GPU that is not NVIDIA's; None elsewhere."""
    if executor.device != "auto" or executor.name != "local" or list_visible_gpus():
        return None
    lines = _read_torch_version()
    built = [name for key, name in _OTHER_BUILDS.items() if any(re.match(rf"{key}\b.*= *['\"]", one) for one in lines)]
    if (platform.system(), platform.machine()) == ("Darwin", "arm64"):
        built = ["Apple's GPU (MPS)"]
    return f"{built[0]} is not used, only NVIDIA's are: trials run on the CPU." if built else None


def _read_torch_version() -> list[str]:
    """The lines of torch's version.py, without importing torch."""
    package = find_spec("torch")
    path = None if package is None or package.origin is None else Path(package.origin).parent / "version.py"
    return [] if path is None else _read_words(path, "\n")


def _is_torch_with_cuda() -> bool:
    """What torch's version.py says; True where it says nothing. ROCm's counts, too."""
    lines = _read_torch_version()
    return not all(any(re.match(rf"{name}\b.*= *None", line) for line in lines) for name in ("cuda", "hip"))


def _refuse_missing_bfloat16() -> None:
    """Raises `ConfigError` where no GPU computes in bfloat16; nothing is known without nvidia-smi."""
    asked = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        listed = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
        rows = [line.rpartition(",") for line in listed.splitlines() if "," in line]
        cards = [(name.strip(), float(capability)) for name, _, capability in rows]
    except (OSError, ValueError, subprocess.SubprocessError):
        return
    if cards and all(capability < _BFLOAT16_SINCE for _, capability in cards):
        named = f"{cards[0][0]} has {cards[0][1]:g}"
        rule = f"needs a GPU of compute capability {_BFLOAT16_SINCE:g} or higher, and {named}"
        raise refuse("training.precision", rule, "bfloat16", "use training.precision=float32")


def count_cores(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Cores that this process may use: those that it may run on, and no more than its control group has time for.

    A part of a core counts as a whole one. `groups`: where control groups are mounted; `own`: this process's file.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _list_quotas(groups, own))]))


def _list_quotas(groups: Path, own: Path) -> Iterator[float]:
    """Cores that this process's control group and those above it are given time for, of version 2 and of version 1.

    A container sees its own group as the root, whatever path the file names, so that every folder upwards is tried.
    """
    for line in _read_words(own, "\n"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for name in {controllers, "cpu"} if controllers else {""}:
            inner = PurePosixPath(path.lstrip("/"))
            for folder in (groups / name / part for part in (inner, *inner.parents)):
                if controllers:
                    limit = [*_read_words(folder / "cpu.cfs_quota_us"), *_read_words(folder / "cpu.cfs_period_us")]
                else:
                    limit = _read_words(folder / "cpu.max")
                if len(limit) == 2 and all(one.isdigit() and int(one) > 0 for one in limit):  # else -1, or "max"
                    yield int(limit[0]) / int(limit[1])


def _read_words(path: Path, separator: str | None = None) -> list[str]:
    """What a file holds between separators; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").split(separator)
    except (OSError, ValueError):
        return []


def _is_small(model: ModelConfig) -> bool:
    """True for a base whose weights are known to be small; the size of a model from the hub is not known yet."""
    if model.source == "embedded":
        return True
    if not isinstance(model, LocalModel) or model.random_init:
        return False
    return sum(path.stat().st_size for path in expand_home(model.path).glob("*.safetensors")) <= _SMALL_BASE_BYTES


def measures_own_cost(config: StudyConfig) -> bool:
    """True where an objective is a trial's time or memory, which other trials at the same time would change."""
    return any(metric.startswith((*SOLO_METRICS, "solo.")) for metric in config.study.objectives)


def is_order_dependent(config: StudyConfig) -> bool:
    """True for a sampler or a pruner whose decisions depend on the order in which trials end."""
    return config.sampler.name in LEARNING or config.pruner.name not in ("none", "patient")


def _count_cpu_workers(config: StudyConfig) -> int:
    """One worker for each core where the base is small. One in all where results depend on the order of trials, so that
    they can be repeated, or where time or memory is measured."""
    if measures_own_cost(config) or is_order_dependent(config) or not _is_small(config.model):
        return 1
    return max(1, count_cores() // config.training.num_devices)


def _group_gpus(gpus: list[str], count: int) -> list[str]:
    """`count` GPUs for each worker, as CUDA_VISIBLE_DEVICES takes them. Raises `ConfigError` where there are fewer."""
    if gpus and count > len(gpus):
        rule = f"must be at most the {len(gpus)} GPUs of this machine"
        raise refuse("training.num_devices", rule, count, "use fewer, or executor.device=cpu")
    if count > 1 and any(one.startswith("MIG-") for one in gpus):
        rule = "must be 1 where a GPU is in parts (MIG), since CUDA shows one part to a process"
        raise refuse("training.num_devices", rule, count, "use 1, or switch MIG off")
    return [",".join(gpus[start : start + count]) for start in range(0, len(gpus) - count + 1, count)]


def _refuse_unmeasured(config: StudyConfig, on_gpu: bool) -> None:
    """Raises `ConfigError` for an objective or a constraint that workers of this machine do not measure."""
    device, others = ("GPU", _UNMEASURED_ON_GPU) if on_gpu else ("CPU", _UNMEASURED_ON_CPU)
    for key, metrics in list_asked_metrics(config):
        for metric in metrics:
            if metric in others:
                raise refuse(key, f"must be measured on a {device}", metric, f"use {others[metric]}")


def choose_placements(config: StudyConfig) -> list[Placement]:
    """The placements of `executor.num_workers` workers; `auto`: one for each GPU, or as many as suit the CPU.

    Raises `ConfigError` for a GPU that is not here, for a model on more than there are, for arithmetic that none has,
    and for an objective on memory that is not measured where the workers run.
    """
    executor, num_devices = config.executor, config.training.num_devices
    refuse_missing_gpu(executor)
    gpus = [] if executor.device == "cpu" else _group_gpus(list_visible_gpus(), num_devices)
    _refuse_unmeasured(config, on_gpu=bool(gpus))
    if gpus and config.training.precision == "bfloat16":
        _refuse_missing_bfloat16()
    count = executor.num_workers
    if count == "auto":
        count = 1 if gpus and measures_own_cost(config) else len(gpus) or _count_cpu_workers(config)
    if gpus:
        chosen = [gpus[number % len(gpus)] for number in range(count)]
        return [Placement(executor, gpu, num_devices, 1 / chosen.count(gpu)) for gpu in chosen]
    threads = executor.num_threads or (max(1, count_cores() // count) if count > 1 else None)
    return [Placement(executor.replaced(num_threads=threads), None, num_devices) for _ in range(count)]
