"""Seconds and peak memory of a phase, the peak counted from the phase's own start."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sweeplab.records import Phase

if TYPE_CHECKING:
    import torch

CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): resets VmHWM to the present size


def reset_resident_peak() -> bool:
    """True where the system counts the peak resident set anew from here: Linux with /proc mounted writable."""
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def resident_peak_bytes() -> int:
    """Highest resident set since the reset, from VmHWM in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM, though its peak could be reset")


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
            peak_resident_bytes=resident_peak_bytes() if resettable else None,
            peak_allocated_bytes=torch.cuda.max_memory_allocated(device) if cuda else None,
            peak_reserved_bytes=torch.cuda.max_memory_reserved(device) if cuda else None,
        )
        add_phase(phases, name, passed)
