"""What the device can do at its best, measured in the same run, and what it is."""

import subprocess
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import Any, Final

import torch

from sweeplab.runtime.provenance import describe_device, describe_software

MATRIX: Final = 8192
COPIED_BYTES: Final = 1 << 30
NUM_REPEATS: Final = 20


def median_seconds(work: Any, device: torch.device) -> float:
    """Of `NUM_REPEATS` calls, after three that are not counted; wall time with the device waited for."""
    seconds = []
    for place in range(NUM_REPEATS + 3):
        started = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if place >= 3:
            seconds.append(perf_counter() - started)
    return median(seconds)


def product_flops_per_second(device: torch.device, size: int) -> float:
    """Of a square matrix product in bfloat16 of random numbers: zeros can run faster."""
    left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=device) for _ in range(2))
    product = torch.empty_like(left)
    return 2 * size**3 / median_seconds(lambda: torch.mm(left, right, out=product), device)


def copy_bytes_per_second(device: torch.device, num_bytes: int) -> float:
    """Of a copy within the device, bytes read and bytes written."""
    source = torch.randint(0, 255, (num_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / median_seconds(lambda: target.copy_(source), device)


def driver() -> str | None:
    """The GPU driver's version, where its tool tells it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip().splitlines()[0] if told.stdout.strip() else None


def surroundings(device: torch.device) -> dict[str, Any]:
    """Date, hardware, driver, versions, and the two ceilings."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": describe_device(device),
        "driver": driver(),
        **describe_software(),
        "bf16_flops_per_second": product_flops_per_second(device, MATRIX),
        "copy_bytes_per_second": copy_bytes_per_second(device, COPIED_BYTES),
    }
