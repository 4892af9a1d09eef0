import ctypes
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sweeplab.records.record import Phase
from sweeplab.trial import measurement as measure
from sweeplab.trial.measurement import _reset_resident_peak, add_phase, measure_phase

CPU = torch.device("cpu")
MIB = 2**20

needs_resettable_peak = pytest.mark.skipif(
    sys.platform != "linux" or not _reset_resident_peak(), reason="the system's resident peak cannot be reset"
)


def resident_bytes() -> int:
    """Pages now resident, from proc(5) statm: another source than the peak's."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@needs_resettable_peak
def test_peak_counts_from_the_phase_on_and_includes_what_was_freed_in_it() -> None:
    phases: dict[str, Phase] = {}
    earlier = np.ones(400 * MIB, dtype=np.uint8)
    del earlier
    start = resident_bytes()
    with measure_phase(phases, "train", CPU):
        inside = np.ones(150 * MIB, dtype=np.uint8)
        del inside
    peak = phases["train"].peak_resident_bytes
    assert peak is not None
    assert start + 140 * MIB < peak < start + 200 * MIB
    assert (phases["train"].peak_allocated_bytes, phases["train"].peak_reserved_bytes) == (None, None)


def test_seconds_are_wall_time_and_stay_apart_by_phase() -> None:
    phases: dict[str, Phase] = {}
    for name, seconds in (("load", 0.15), ("train", 0.05)):
        started = time.monotonic()
        with measure_phase(phases, name, CPU):
            time.sleep(seconds)
        assert seconds <= phases[name].seconds <= time.monotonic() - started + 0.001
    assert list(phases) == ["load", "train"]


def test_a_phase_that_ends_in_an_error_is_measured_too() -> None:
    phases: dict[str, Phase] = {}

    def fail() -> None:
        with measure_phase(phases, "train", CPU):
            time.sleep(0.02)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert phases["train"].seconds >= 0.02


def test_a_peak_that_cannot_be_reset_is_missing_rather_than_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "_CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    phases: dict[str, Phase] = {}
    with measure_phase(phases, "load", CPU):
        pass
    assert phases["load"].peak_resident_bytes is None


def test_a_phase_that_goes_on_adds_seconds_and_keeps_the_higher_peak() -> None:
    phases: dict[str, Phase] = {}
    for more in (Phase(1.0, 50, 7, 30), Phase(2.5, 40, 9, 30), Phase(0.5, 45, 8, 31)):
        add_phase(phases, "train", more)
    assert phases == {"train": Phase(4.0, 50, 9, 31)}
    add_phase(phases, "train", Phase(1.0, 70, None, 10))  # one part that is not known leaves the whole unknown
    assert phases == {"train": Phase(5.0, 70, None, 31)}
    add_phase(phases, "evaluate", Phase(1.0))
    assert phases["evaluate"] == Phase(1.0, None, None, None)
    assert phases["train"].seconds == 5.0


FRESH = """
import ctypes
from sweeplab.trial.measurement import freed_memory_returned

class Mallinfo(ctypes.Structure):  # struct mallinfo2 of mallinfo(3); the fourth counts blocks with their own mapping
    _fields_ = [(f"n{place}", ctypes.c_size_t) for place in range(10)]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Mallinfo, ctypes.c_void_p, [ctypes.c_void_p]

def mapped(kib):
    before = libc.mallinfo2().n3
    block = libc.malloc(ctypes.c_size_t(kib * 1024))
    after = libc.mallinfo2().n3
    libc.free(block)
    return after - before

sizes = (256, 1024, 20 * 1024, 40 * 1024)
try:
    with freed_memory_returned():
        print(*map(mapped, sizes))
        raise ZeroDivisionError
except ZeroDivisionError:
    print(*map(mapped, sizes))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
def test_blocks_have_mappings_of_their_own_from_half_a_mebibyte_within_and_from_32_after() -> None:
    """In a process whose heap has no room that a block could come from."""
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, timeout=200)
    assert done.stdout.splitlines() == ["0 1 1 1", "0 0 0 1"]
