"""How many trials at once are measured to be the fastest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sweeplab.data.batches import Batch, Windows
from sweeplab.data.tokens import Tokens
from sweeplab.multilora.batches import CohortBatch
from sweeplab.records.record import Phase
from sweeplab.training.running_trial import OptimizerBytes, RunningTrial
from sweeplab.trial import cohort_speed
from sweeplab.trial.cohort_speed import measure_fastest_size
from sweeplab.trial.profile import prepare_passes
from sweeplab.trial.resources import Resources
from tests.training.conftest import examples
from tests.trial.test_profile import CPU, begun, left_behind

__all__ = ["begun"]  # a fixture


class Machine(Resources):
    """With so many bytes `left`; each trial takes 100."""

    left = 10**9

    def memory_bytes(self) -> int | None:
        return 5000

    def free_bytes(self) -> int:
        return self.left


class Timer:
    """Seconds of a micro-batch by the number of trials in it; a number that it lacks runs out of memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: dict[int, float] = {}
        self.tried: list[int] = []

        @contextmanager
        def at_work(runs: list[RunningTrial], resources: Resources) -> Iterator[Callable[..., None]]:
            self.tried.append(len(runs))
            yield lambda batch: None

        @contextmanager
        def measured(phases: dict[str, Phase], name: str, device: torch.device) -> Iterator[None]:
            yield
            phases[name] = Phase(1.0, peak_resident_bytes=5000 + 100 * self.tried[-1])

        def fastest(work: Callable[[], None], device: torch.device) -> float:
            if self.tried[-1] not in self.seconds:
                raise torch.OutOfMemoryError
            return self.seconds[self.tried[-1]]

        monkeypatch.setattr(cohort_speed, "prepare_passes", at_work)
        monkeypatch.setattr(cohort_speed, "measure_phase", measured)
        monkeypatch.setattr(cohort_speed, "time_fastest", fastest)


@pytest.mark.parametrize(
    ("seconds", "num_runs", "left", "size", "tried"),
    [
        ({1: 1, 2: 1.2, 4: 1.5, 8: 2}, 8, 10**9, 8, [1, 2, 4, 8]),
        ({1: 1, 2: 1.2, 4: 2.5, 8: 2}, 8, 10**9, 2, [1, 2, 4]),  # as slow per token as two
        ({1: 1, 2: 1.95, 4: 1, 8: 1}, 8, 10**9, 1, [1, 2]),  # 2.6 % faster is not worth the memory
        ({1: 1, 2: 1.9, 4: 3.9, 8: 1}, 8, 10**9, 2, [1, 2, 1, 2, 4]),  # 5 % is, where it is seen twice
        ({1: 1, 2: 1.2, 4: 1.5, 6: 1.6}, 6, 10**9, 6, [1, 2, 4, 6]),
        ({1: 1, 2: 1.2}, 8, 10**9, 2, [1, 2, 4]),  # four run out of memory
        ({}, 8, 10**9, 1, [1]),
        ({1: 1, 2: 1, 4: 1, 8: 1}, 8, 399, 2, [1, 2]),  # two take 200, so four would take 400
        ({1: 1, 2: 1, 4: 1, 8: 1}, 8, 400, 4, [1, 2, 4]),
        ({1: 1}, 1, 10**9, 1, [1]),
    ],
)
def test_more_at_once_only_while_that_is_faster_and_fits(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], num_runs: int, left: int, size: int, tried: list[int]
) -> None:
    timer, machine, data = Timer(monkeypatch), Machine(CPU), examples(6, seed=1)
    timer.seconds, machine.left = seconds, left
    runs: Any = [
        SimpleNamespace(
            windows=Windows(data, 2, 1, n),
            base=SimpleNamespace(pad_id=0),
            optimizer_bytes=OptimizerBytes(0, 0),
            column_multiple=1,
        )
        for n in range(num_runs)
    ]
    assert measure_fastest_size(runs, machine) == size
    assert timer.tried == tried


def test_what_is_timed_is_a_typical_micro_batch_and_the_longest_one_has_to_fit(
    begun: Callable[..., RunningTrial], resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred short rows and a long one: it is in few micro-batches, and no reason to train one by one."""
    runs, widths, timed = (
        [begun(number, "training.micro_batch_size=1") for number in range(2)],
        list[int](),
        list[int](),
    )
    rows = [*[Tokens([5] * 8, [5] * 8)] * 100, Tokens([5] * 64, [5] * 64)]
    for run in runs:
        run.windows = Windows(rows, 1, 1, 0)

    @contextmanager
    def noting(trials: list[RunningTrial], resources: Resources) -> Iterator[Callable[..., None]]:
        def run(batch: CohortBatch) -> None:
            assert isinstance(batch.rows, Batch)
            widths.append(batch.rows.ids_BT.shape[1])

        with prepare_passes(trials, resources):
            yield run

    def fastest(work: Callable[[], None], device: torch.device) -> float:
        work()
        timed.append(widths[-1])
        return 1.0

    monkeypatch.setattr(cohort_speed, "prepare_passes", noting)
    monkeypatch.setattr(cohort_speed, "time_fastest", fastest)
    assert measure_fastest_size(runs, resources) == 2
    assert widths == [64, 8] * 2
    assert timed == [8, 8]


def test_real_trials_are_untouched_by_the_search_for_their_number(
    begun: Callable[..., RunningTrial], resources: Resources
) -> None:
    runs = [begun(number, f"adapter.rank={2 + 8 * number}", "adapter.dropout=0.1") for number in range(3)]
    before = [run.slot.row_P.clone() for run in runs if run.slot is not None]
    hooks = left_behind(runs[0])[0]
    assert measure_fastest_size(runs, resources) in (1, 2, 3)
    for run, weights in zip(runs, before, strict=True):
        assert run.slot is not None
        assert torch.equal(run.slot.row_P, weights)
        assert all(weight.grad is None for weight in run.slot.parameters.values())
    assert left_behind(runs[0])[0] == hooks
