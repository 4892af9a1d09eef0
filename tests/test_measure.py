import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sweeplab import measure
from sweeplab.measure import measured, reset_resident_peak
from sweeplab.records import Phase

CPU = torch.device("cpu")
MIB = 2**20

needs_resettable_peak = pytest.mark.skipif(
    sys.platform != "linux" or not reset_resident_peak(), reason="the system's resident peak cannot be reset"
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
    with measured(phases, "train", CPU):
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
        with measured(phases, name, CPU):
            time.sleep(seconds)
        assert seconds <= phases[name].seconds <= time.monotonic() - started + 0.001
    assert list(phases) == ["load", "train"]


def test_a_phase_that_ends_in_an_error_is_measured_too() -> None:
    phases: dict[str, Phase] = {}

    def fail() -> None:
        with measured(phases, "train", CPU):
            time.sleep(0.02)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert phases["train"].seconds >= 0.02


def test_a_peak_that_cannot_be_reset_is_missing_rather_than_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    phases: dict[str, Phase] = {}
    with measured(phases, "load", CPU):
        pass
    assert phases["load"].peak_resident_bytes is None
