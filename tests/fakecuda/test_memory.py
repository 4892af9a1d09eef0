"""Memory of whole trials on a GPU: beside the plan's, when it runs out, and what stays of a trial and of a base."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch

import sweeplab.trial.cohort_speed as cohort_speed
from experiments.benchmarks.gpu.trials import ALL, Laboratory, planned
from sweeplab.config.executor import LocalWorkers
from sweeplab.records.record import Status
from sweeplab.trial.resources import Resources
from tests.fakecuda.device import on_fake_cuda
from tests.fakecuda.trials import DQ, ONE_LAYER, TWO_LAYERS, compose, run_trials

# the loss looks where states lie in memory, to see whether the model changes them before the head
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor:UserWarning")


EXECUTOR = {"device": "auto", "cohort_size": 1, "num_threads": None, "checkpoint_seconds": None, "trial_seconds": None}


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Python's collector stands still: nothing in torch or CUDA runs it when memory is short."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "overrides",
    [
        (DQ,),
        ("quantization=none",),
        (DQ, "training.gradient_checkpointing=true"),
        (DQ, "adapter.rank=256", *ALL),
        (DQ, "adapter.dropout=0.05", *ALL),
    ],
    ids=lambda overrides: " ".join(overrides[:2]),
)
def test_the_plan_is_what_the_allocator_gives_out(overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = compose(TWO_LAYERS, (1304,), *overrides)
    with on_fake_cuda():
        lab = Laboratory.on("cuda", cohort_size=1)
        lab.lengths = [1304] * 2
        (record,) = run_trials(lab, config, tmp_path, 1)
    plan = planned(config, 1304, "cuda")
    assert record.status is Status.FINISHED
    assert plan.training.total_bytes == pytest.approx(record.phases["train"].peak_allocated_bytes, rel=0.05)
    assert plan.evaluation.total_bytes == pytest.approx(record.phases["evaluate"].peak_allocated_bytes, rel=0.15)


def test_trials_that_fit_alone_finish_after_their_cohort_ran_out_of_memory(no_collection: None, tmp_path: Path) -> None:
    config = compose(ONE_LAYER, (256,), DQ, "adapter.rank=256", *ALL)
    with on_fake_cuda(2.6e9) as meter:
        lab = Laboratory.on("cuda", cohort_size=4)
        lab.lengths = [256] * 4
        records = run_trials(lab, config, tmp_path, 4)
    assert meter.num_out_of_memory == 1
    assert [record.status for record in records] == [Status.FINISHED] * 4


def run_in_no_time(work: Callable[[], None], device: object) -> float:
    """In the place of `time_fastest`: all sizes take one second, so that more at once are always faster."""
    work()
    return 1.0


def test_the_size_that_is_measured_has_room_for_optimizer_states(no_collection: None, tmp_path: Path) -> None:
    """The first step creates the states, and the micro-batch after it is as long as the longest: both at once fit.

    Four trials fit into 2.6 GB for one micro-batch before their first step.
    """
    config = compose(ONE_LAYER, (256,), DQ, "adapter.rank=256", *ALL)
    with (
        on_fake_cuda(2.6e9) as meter,
        mock.patch.object(cohort_speed, "time_fastest", run_in_no_time),
    ):
        lab = Laboratory.on("cuda", cohort_size=None)  # type: ignore[arg-type]
        lab.lengths = [256] * 4
        records = run_trials(lab, config, tmp_path, 4)
    assert meter.num_out_of_memory == 0
    assert [(record.status, len(record.cohort)) for record in records] == [(Status.FINISHED, 2)] * 4


def test_a_base_is_gone_before_the_next_one_is_loaded(no_collection: None, tmp_path: Path) -> None:
    standing = []
    with on_fake_cuda():
        lab = Laboratory.on("cuda", cohort_size=1)
        lab.lengths = [64] * 2
        for scheme in ("none", "nf4"):
            run_trials(lab, compose(ONE_LAYER, (64,), f"quantization={scheme}"), tmp_path / scheme, 1)
            assert lab.base is not None
            base = weakref.ref(lab.base.model)
            lab.forget_base()
            standing.append(base())
    assert standing == [None, None]


def test_nothing_stays_of_trials_that_have_ended(no_collection: None, tmp_path: Path) -> None:
    """Neither weights nor optimizer states nor batches: after each trial what the base takes is there, and no more."""
    config = compose(ONE_LAYER, (64,), DQ, "adapter.rank=64")
    standing = set[int]()
    with on_fake_cuda() as meter:
        lab = Laboratory.on("cuda", cohort_size=1)
        lab.lengths = [64] * 2
        for number in range(3):
            (record,) = run_trials(lab, config, tmp_path / str(number), 1)
            assert record.status is Status.FINISHED
            standing.add(meter.now)
    assert len(standing) == 1


def test_workers_on_one_gpu_keep_within_their_shares() -> None:
    config = compose(ONE_LAYER, (64,))
    fractions: list[float] = []
    with (
        on_fake_cuda(24e9),
        mock.patch.object(torch.cuda, "set_per_process_memory_fraction", lambda share, device: fractions.append(share)),
    ):
        whole, half = (
            Resources.open(LocalWorkers.model_construct(None, **EXECUTOR), gpu_share=one) for one in (1, 0.5)
        )
        before = half.free_bytes()
        half.base_for(config)
        taken = half.memory_bytes() or 0
        assert fractions == [pytest.approx((12e9 - 2**30) / 24e9, abs=1e-9)]
        assert before == 12_000_000_000 - 2**30
        assert half.free_bytes() == before - taken
        assert whole.free_bytes() == 24_000_000_000 - taken
        assert taken > 500e6
