"""How many trials train at once after some failed together."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sweeplab.trial import capacity
from sweeplab.trial.capacity import choose_capacity, halve_capacity
from sweeplab.trial.resources import Resources

NO_ROOM = torch.OutOfMemoryError("no room, made up")


class SharedGpu(Resources):
    """A device of which other processes hold `foreign` bytes."""

    foreign = 0

    def foreign_bytes(self) -> int:
        return self.foreign


def made_up(count: int, geometry: str = "16 rows") -> list[Any]:
    spec, record = SimpleNamespace(geometry=geometry), SimpleNamespace(solo=object())
    return [SimpleNamespace(spec=spec, record=record, num_micro_batches_left=10**6) for _ in range(count)]


@pytest.mark.parametrize(
    ("error", "foreign", "later"),
    [
        (NO_ROOM, 0, 4),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), 0, 4),
        (NO_ROOM, 10**9, 8),  # others' memory comes and goes
        (ValueError("made up"), 0, 8),  # one trial's own fault
    ],
)
def test_later_trials_begin_with_as_many_as_memory_had_room_for(
    error: Exception, foreign: int, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = SharedGpu(torch.device("cpu"))
    monkeypatch.setattr(capacity, "measure_fastest_size", lambda trials, _: len(trials))
    monkeypatch.setattr(capacity, "_measure_optimizers", lambda *_: None)
    monkeypatch.setattr(capacity, "_measure", lambda trials, resources, work: work())
    assert choose_capacity(made_up(8), resources) == 8
    resources.foreign = foreign
    assert halve_capacity(made_up(8), error, resources) == 4
    assert choose_capacity(made_up(8), resources) == later
    assert choose_capacity(made_up(8, geometry="4 rows"), resources) == 8
