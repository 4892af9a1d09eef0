"""Seconds and peak memory of the phases of a trial; each peak is counted from the start of its phase."""

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sweeplab.records.record import Phase

if TYPE_CHECKING:
    import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets VmHWM to the present size
_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_SMALLEST_MAPPING_BYTES: Final = 1 << 19
LARGEST_MAPPING_BYTES: Final = 1 << 25  # where glibc's own threshold ends up in training


def return_freed_memory(from_bytes: int = _SMALLEST_MAPPING_BYTES) -> bool:
    """Makes glibc return every freed block of at least `from_bytes` to the system; True where it does.

    By default glibc raises this limit up to 32 MiB as larger blocks are freed (mallopt(3)). Activations then come from
    a fragmented heap that is never returned, and the resident set is far larger than what is in use; see
    `reports/benchmarks/memory_model`. Returning blocks costs a page fault for every 4 kB of every activation: the
    default `rank_sweep` took 1.75 times as long. So use it to measure memory, not to train.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library may have none
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, from_bytes) == 1


def trim_freed_memory() -> None:
    """Has glibc give back what already lies free in its heaps (malloc_trim(3)), so that it does not count as standing.

    A block that is then taken from there counts again: what a step adds to the resident set is the same in a process
    that has trained for hours as in a fresh one.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # another C library may have none
        if trim is not None:
            trim(ctypes.c_size_t(0))


@contextmanager
def freed_memory_returned(afterwards: int = LARGEST_MAPPING_BYTES) -> Iterator[None]:
    """Within it freed blocks of half a mebibyte or more are returned to the system; after it those of at least
    `afterwards` bytes."""
    return_freed_memory()
    try:
        yield
    finally:
        return_freed_memory(afterwards)


def _reset_resident_peak() -> bool:
    """Resets the peak of the resident set; False where the system cannot (it needs Linux with a writable /proc)."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def read_resident_bytes(name: str) -> int:
    """`VmRSS`, the resident set now, or `VmHWM`, its peak since the reset, from /proc/self/status (Linux), in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def add_phase(phases: dict[str, Phase], name: str, more: Phase) -> None:
    """Adds `more` to the phase `name`: seconds are summed, of the peaks the larger one is kept. What one of them does
    not know is not known of both."""
    earlier = phases.get(name)
    if earlier is None:
        phases[name] = more
        return
    parts = ("peak_resident_bytes", "peak_allocated_bytes", "peak_reserved_bytes")
    pairs = {part: (getattr(earlier, part), getattr(more, part)) for part in parts}
    peaks = {part: None if None in pair else max(pair) for part, pair in pairs.items()}
    processor = (earlier.processor_seconds, more.processor_seconds)
    phases[name] = Phase(
        earlier.seconds + more.seconds,
        **peaks,
        processor_seconds=None if None in processor else sum(filter(None, processor)),
    )


@contextmanager
def measure_phase(phases: dict[str, Phase], name: str, device: "torch.device") -> Iterator[None]:
    """Adds the seconds and the peak bytes of what runs within it to `phases[name]`, also after an error.

    On CUDA the peaks are those of torch's allocator (`max_memory_allocated`, `max_memory_reserved`), on a CPU with
    Linux that of the process's resident set; elsewhere they are None.
    """
    import torch

    cuda = device.type == "cuda"
    resettable = not cuda and sys.platform == "linux" and _reset_resident_peak()
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    started, processor_started = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        if cuda:
            torch.cuda.synchronize(device)
        passed = Phase(
            seconds=time.perf_counter() - started,
            peak_resident_bytes=read_resident_bytes("VmHWM") if resettable else None,
            peak_allocated_bytes=torch.cuda.max_memory_allocated(device) if cuda else None,
            peak_reserved_bytes=torch.cuda.max_memory_reserved(device) if cuda else None,
            processor_seconds=time.process_time() - processor_started,
        )
        add_phase(phases, name, passed)
