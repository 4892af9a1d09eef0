"""Seconds and peak memory of a phase, the peak counted from the phase's own start."""

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

CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): resets VmHWM to the present size
M_MMAP_THRESHOLD: Final = -3  # malloc.h
OWN_MAPPING_BYTES: Final = 1 << 19
MOST_MAPPING_BYTES: Final = 1 << 25  # where glibc's own threshold ends up in training


def return_freed_memory(from_bytes: int = OWN_MAPPING_BYTES) -> bool:
    """Has glibc give every block of half a mebibyte or more back to the system when it is freed; True where it will.

    By default its threshold grows with the blocks that are freed, to 32 MiB (mallopt(3)): a layer's activations then
    come from a heap that keeps what it once had, in pieces, and a trial's resident set is far above what stands in it.
    `reports/benchmarks/memory_model` has both. It costs time, a page fault for every 4 kB of every activation: the
    default `rank_sweep` trained 1.75 times as long. So it is for measuring what stands in memory, not for training.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library may have none
    return mallopt is not None and mallopt(M_MMAP_THRESHOLD, from_bytes) == 1


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
def freed_memory_returned(afterwards: int = MOST_MAPPING_BYTES) -> Iterator[None]:
    """Within it `return_freed_memory` holds; after it blocks from `afterwards` bytes on are given back."""
    return_freed_memory()
    try:
        yield
    finally:
        return_freed_memory(afterwards)


def reset_resident_peak() -> bool:
    """True where the system counts the peak resident set anew from here: Linux with /proc mounted writable."""
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def resident_bytes(name: str) -> int:
    """VmRSS, the resident set, or VmHWM, its highest since the reset; Linux has them in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def add_phase(phases: dict[str, Phase], name: str, more: Phase) -> None:
    """Goes on with a phase: seconds add up, of peaks the higher one stays."""
    earlier = phases.get(name)
    if earlier is None:
        phases[name] = more
        return
    parts = ("peak_resident_bytes", "peak_allocated_bytes", "peak_reserved_bytes")
    pairs = {part: (getattr(earlier, part), getattr(more, part)) for part in parts}
    peaks = {part: None if None in pair else max(pair) for part, pair in pairs.items()}
    phases[name] = Phase(earlier.seconds + more.seconds, **peaks)


@contextmanager
def measured(phases: dict[str, Phase], name: str, device: "torch.device") -> Iterator[None]:
    """Adds what happens inside to `phases[name]`, also where it ends in an error: wall seconds and peak bytes.

    On CUDA the allocator's peaks (torch.cuda.max_memory_allocated, _reserved), on a Linux CPU the process's resident
    set; elsewhere memory is None.
    """
    import torch

    cuda = device.type == "cuda"
    resettable = not cuda and sys.platform == "linux" and reset_resident_peak()
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    started = time.perf_counter()
    try:
        yield
    finally:
        if cuda:
            torch.cuda.synchronize(device)
        passed = Phase(
            seconds=time.perf_counter() - started,
            peak_resident_bytes=resident_bytes("VmHWM") if resettable else None,
            peak_allocated_bytes=torch.cuda.max_memory_allocated(device) if cuda else None,
            peak_reserved_bytes=torch.cuda.max_memory_reserved(device) if cuda else None,
        )
        add_phase(phases, name, passed)
