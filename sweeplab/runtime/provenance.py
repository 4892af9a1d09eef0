"""What a record was made with: versions, commit and device; never an environment variable, a user or a path."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

_PACKAGES: Final = (
    "sweeplab",
    "torch",
    "lightning",
    "transformers",
    "peft",
    "bitsandbytes",
    "hqq",
    "optuna",
    "lm_eval",
    "datasets",
)


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _run_git(*arguments: str) -> str | None:
    """What git says in the source checkout, or None outside one or without git."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _read_processor_name() -> str:
    """The processor's model, from Linux's /proc/cpuinfo where it exists."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def describe_device(device: torch.device) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "type": device.type,
        "processor": _read_processor_name(),
        "num_cores": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
    return facts


@cache
def describe_software() -> dict[str, Any]:
    """Versions of what computes, and the commit of the source with whether it had changes."""
    status = _run_git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "versions": {package: _find_version(package) for package in _PACKAGES},
        "commit": _run_git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
    }


def describe_provenance(device: torch.device, base_fingerprint: str, data_fingerprint: str) -> dict[str, Any]:
    """Everything that a rerun to the same numbers has to match, apart from the configuration and the seed."""
    return {
        **describe_software(),
        "device": describe_device(device),
        "base_fingerprint": base_fingerprint,
        "data_fingerprint": data_fingerprint,
    }
