"""Memory runs out once in each phase of a trial: what the records say, and that nothing stays of the failed attempt."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import sweeplab.training.fit as fit
import sweeplab.training.module as module
import sweeplab.trial.capacity as capacity
import sweeplab.trial.resources as resources
import sweeplab.trial.scoring as scoring
from experiments.benchmarks.gpu.trials import Laboratory
from sweeplab.evaluation.results import Evaluation
from sweeplab.records.record import TrialRecord
from sweeplab.training.running_trial import RunningTrial
from tests.fakecuda.device import on_fake_cuda
from tests.fakecuda.meter import Meter
from tests.fakecuda.trials import DQ, NARROW, ONE_LAYER, compose, run_trials

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor:UserWarning")
FINISHED = ("finished", None)


@contextmanager
def fail_once(meter: Meter, home: Any, name: str) -> Iterator[None]:
    """Within it the first allocation after the first call of a function fails."""
    real, is_done = getattr(home, name), list[bool]()

    def fail(num_bytes: int) -> None:
        meter.fails_at = None
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {num_bytes} bytes")

    def call(*arguments: Any, **named: Any) -> Any:
        if not is_done:
            is_done.append(True)
            meter.fails_at = fail
        return real(*arguments, **named)

    with mock.patch.object(home, name, call):
        yield
    assert is_done
    assert meter.fails_at is None, "nothing was allocated there"


def run_failing_once(
    home: Any, name: str, folder: Path, size: int, held: float = 0, *overrides: str
) -> list[TrialRecord]:
    """The records of two trials, of which the base or a part of a trial meets a full device once, of which other
    processes hold so many bytes."""
    config = compose(NARROW, (64,), DQ, "evaluation.batch_size=4", *overrides)
    with on_fake_cuda() as meter, mock.patch.object(torch.cuda, "mem_get_info") as ask:
        ask.side_effect = lambda device=None: (int(80e9 - meter.now - held), int(80e9))
        lab = Laboratory.on("cuda", cohort_size=size)
        lab.lengths = [64] * 2
        with fail_once(meter, home, name):
            records = run_trials(lab, config, folder, 2)
        lab.forget_base()
    assert meter.now < 10_000  # bytes; only scalars that torch keeps
    return records


@pytest.mark.parametrize(
    ("home", "name", "size", "expected"),
    [
        pytest.param(resources, "load_base", 2, [("out_of_memory", "load"), FINISHED], id="load"),
        pytest.param(capacity, "measure_solo", 2, [FINISHED] * 2, id="profile"),
        pytest.param(module, "compute_window_shares", 2, [FINISHED] * 2, id="forward"),
        pytest.param(module.FinetuneModule, "on_before_backward", 2, [FINISHED] * 2, id="backward"),
        pytest.param(RunningTrial, "take_step", 1, [("out_of_memory", "train"), FINISHED], id="step"),
        pytest.param(fit, "measure_heldout_losses", 2, [FINISHED] * 2, id="held-out loss"),
    ],
)
def test_memory_that_runs_out_once_ends_no_other_trial(
    home: Any, name: str, size: int, expected: list[tuple[str, str | None]], tmp_path: Path
) -> None:
    records = run_failing_once(home, name, tmp_path, size)
    assert [(record.status.value, record.phase) for record in records] == expected
    noted = [note for record in records for note in record.notes if "memory was short" in note]
    assert len(noted) == (1 if name == "measure_heldout_losses" else 0)


@pytest.mark.parametrize(
    ("home", "name", "size", "overrides"),
    [
        pytest.param(resources, "load_base", 2, (), id="load"),
        pytest.param(RunningTrial, "take_step", 1, (), id="step"),
        pytest.param(module, "compute_window_shares", 1, ("optimizer=sophia",), id="forward of a trial by itself"),
    ],
)
def test_memory_that_a_neighbor_took_is_asked_for_once_more(
    home: Any, name: str, size: int, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    records = run_failing_once(home, name, tmp_path, size, 30e9, *overrides)
    assert [(record.status.value, record.phase) for record in records] == [FINISHED] * 2
    noted = [note for record in records for note in record.notes if "other processes" in note]
    held = (30e9 - 2**30) / 1e9
    assert noted == (
        [] if name == "load_base" else [f"memory was short while other processes held {held:.3g} GB of the GPU"]
    )


def test_memory_that_a_neighbor_keeps_is_in_the_record(tmp_path: Path) -> None:
    config = compose(NARROW, (64,), DQ)
    with on_fake_cuda() as meter, mock.patch.object(torch.cuda, "mem_get_info", return_value=(0, int(80e9))):
        lab = Laboratory.on("cuda", cohort_size=1)
        lab.lengths = [64] * 2
        with mock.patch.object(
            RunningTrial, "take_step", side_effect=torch.OutOfMemoryError("CUDA out of memory")
        ) as step:
            (record,) = run_trials(lab, config, tmp_path, 1)
    assert (record.status.value, record.phase, step.call_count) == ("out_of_memory", "train", 2)
    assert record.notes[-1].startswith("memory was short while other processes held 78.9 GB")
    assert meter.num_out_of_memory == 0


def test_tasks_that_do_not_fit_are_scored_in_smaller_batches(tmp_path: Path) -> None:
    sizes = list[int]()

    def score(model: Any, tokenizer: Any, settings: Any, num_trials: int, *_: Any, **__: Any) -> list[Evaluation]:
        sizes.append(settings.batch_size)
        if settings.batch_size > 1:
            torch.empty(1 << 40, device="cuda")
        return [Evaluation({}, [])] * num_trials

    config = compose(ONE_LAYER, (64,), DQ, "evaluation=default", "evaluation.batch_size=4")
    with on_fake_cuda() as meter, mock.patch.object(scoring, "run_lm_eval", score):
        lab = Laboratory.on("cuda", cohort_size=1)
        lab.lengths = [64] * 2
        (record,) = run_trials(lab, config, tmp_path, 1)
    assert (record.status.value, record.phase) == FINISHED
    assert sizes == [4, 2, 1] * 2  # of the base, then of the trial
    assert meter.num_out_of_memory == 4
    assert record.notes == ["memory was short in evaluation: batches of 1 instead of evaluation.batch_size=4"]


def test_a_trial_whose_tasks_cannot_be_scored_keeps_its_adapter(tmp_path: Path) -> None:
    def score(model: Any, tokenizer: Any, settings: Any, num_trials: int, *arguments: Any, **_: Any) -> Any:
        if len(arguments) == 1:
            return [Evaluation({}, [])]  # the base
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.80 GiB")

    config = compose(ONE_LAYER, (64,), DQ, "evaluation=default", "evaluation.batch_size=4")
    with on_fake_cuda(), mock.patch.object(scoring, "run_lm_eval", score):
        lab = Laboratory.on("cuda", cohort_size=1)
        lab.lengths = [64] * 2
        (record,) = run_trials(lab, config, tmp_path, 1)
    assert (record.status.value, record.phase) == ("out_of_memory", "evaluate")
    assert record.heldout_loss_nats_per_token is not None
    assert (tmp_path / "trials" / "0" / "adapter" / "adapter_model.safetensors").exists()
