"""What is measured before a cohort trains, and that it leaves no trace."""

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sweeplab.config.executor import LocalWorkers
from sweeplab.planning.forecast import Forecaster
from sweeplab.records.record import Solo, Status
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial import profile as probe
from sweeplab.trial.beginning import begin_trial
from sweeplab.trial.profile import measure_solo, time_fastest
from sweeplab.trial.resources import Resources
from tests.trials import SpecFactory

CPU = torch.device("cpu")


@pytest.fixture
def begun(make_spec: SpecFactory, resources: Resources) -> Callable[..., RunningTrial]:
    def make(number: int, *overrides: str) -> RunningTrial:
        spec = make_spec(number, "quantization=none", "evaluation=none", *overrides)
        return begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda *_: None)

    return make


def measured(run: RunningTrial, resources: Resources) -> Solo:
    solo = measure_solo(run, resources)
    assert solo is not None
    return solo


def left_behind(run: RunningTrial) -> list[Any]:
    """All that a measurement could leave in a trial or in its base."""
    assert run.slot is not None
    hooks = [len(module._forward_hooks) + len(module._backward_hooks) for module in run.base.model.modules()]
    weights = [weight.detach().clone() for weight in (*run.base.model.parameters(), run.slot.row_P)]
    grads = [weight.grad is None for weight in (*run.slot.parameters.values(), *run.base.model.parameters())]
    state = [
        len(run.optimizer.state),
        run.step,
        run.scheduler.last_epoch,
        run.slot.row_P.data_ptr(),
    ]
    return [
        hooks,
        *(weight.numpy().tobytes() for weight in weights),
        grads,
        state,
        run.base.model.is_gradient_checkpointing,
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=adamw", "adapter.dropout=0.1"),
        ("optimizer=adafactor", "training.gradient_checkpointing=true"),
        ("optimizer=schedule_free",),
    ],
)
def test_solo_leaves_trial_and_base_untouched(
    begun: Callable[..., RunningTrial], resources: Resources, overrides: tuple[str, ...]
) -> None:
    run = begun(0, *overrides)
    before = left_behind(run)
    measure_solo(run, resources)
    assert left_behind(run) == before


def test_solo_says_what_a_step_takes(begun: Callable[..., RunningTrial], resources: Resources) -> None:
    run = begun(0, "training.micro_batch_size=3", "training.accumulation=2")
    started = time.perf_counter()
    found = measured(run, resources)
    took = time.perf_counter() - started
    lengths = sorted((row.num_tokens for row in run.data.train), reverse=True)
    assert (found.num_steps, found.num_tokens) == (3, 2 * sum(lengths[:3]))
    assert 0 < found.step_seconds < took / 4  # three timed, and those before them
    assert found.median_step_seconds is not None
    assert found.slowest_step_seconds is not None
    assert found.step_seconds <= found.median_step_seconds <= found.slowest_step_seconds
    assert found.step_processor_seconds is not None
    assert found.step_processor_seconds > 0
    if found.peak_resident_bytes is not None:
        assert resources.base_memory_bytes is not None
        logits_bytes = 3 * lengths[0] * run.base.model.config.vocab_size * 4
        assert found.peak_resident_bytes > resources.base_memory_bytes + logits_bytes


def fill_heap() -> None:
    """Leaves much of the heap resident and free, as a process does that has trained for long."""
    blocks = [torch.ones(2**16) for _ in range(400)]  # 100 MiB, in blocks too small for mappings of their own
    kept = blocks[::40]
    del blocks
    assert len(kept) == 10


def test_solo_sees_a_larger_micro_batch(
    begun: Callable[..., RunningTrial], resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # what others do on the machine does not count
    fill_heap()
    small, large = (
        measured(begun(number, f"training.micro_batch_size={size}"), resources) for number, size in enumerate((1, 40))
    )
    assert large.step_seconds > 2 * small.step_seconds
    if small.peak_resident_bytes is not None and large.peak_resident_bytes is not None:
        assert large.peak_resident_bytes > small.peak_resident_bytes + 2**22


class Allocations(TorchDispatchMode):
    """Live bytes of storages that operators made, by weak references: another way to count than the profiler's."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known: set[int] = set()
        self.now = self.peak = 0

    def gone(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [one for one in tree_leaves([args, kwargs or {}]) if isinstance(one, torch.Tensor)]
        before = {one.untyped_storage()._cdata for one in inputs}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known | before:  # a view of what an operator read is no new memory
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return made


@pytest.mark.parametrize(
    "overrides",
    [
        ("adapter.rank=33", "training.gradient_checkpointing=true"),
        ("quantization=nf4_dq", "adapter=dora", "adapter.dropout=0.1", "training.accumulation=2"),
        ("adapter=none", "optimizer=sophia"),
        ("model=tiny_vit", "data=digits", "optimizer=schedule_free"),
    ],
    ids=" ".join,
)
def test_tensors_are_counted_as_a_second_counter_counts_them(
    make_spec: SpecFactory, resources: Resources, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    """But for what torch's kernels take for themselves; and the trained weights are as they were."""
    spec = make_spec(0, "quantization=none", "evaluation=none", *overrides)
    run = begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda *_: None)
    weights = [weight.detach().clone() for weight in run.parameters]
    generator = torch.get_rng_state()
    counted = measured(run, resources)
    assert all(map(torch.equal, weights, run.parameters))
    assert all(weight.grad is None for weight in run.parameters)
    assert run.slot is not None or torch.equal(generator, torch.get_rng_state())
    second = Allocations()

    @contextmanager
    def count_otherwise() -> Iterator[SimpleNamespace]:
        peaks: dict[str, int] = {}
        monkeypatch.setattr(probe, "record_function", lambda name: noted(second, name, peaks))
        with second:
            yield SimpleNamespace(peak_bytes=peaks.get)

    monkeypatch.setattr(probe, "count_tensors", count_otherwise)
    again = measured(run, resources)
    for one in ("peak_allocated_bytes", "evaluation_peak_allocated_bytes"):
        assert getattr(again, one) <= getattr(counted, one) <= 1.01 * getattr(again, one), one


@pytest.mark.parametrize(
    "overrides", [("adapter=prompt",), ("quantization=nf4_dq", "adapter=dora", "adapter.rank=33")], ids=" ".join
)
def test_what_is_counted_was_planned(make_spec: SpecFactory, resources: Resources, overrides: tuple[str, ...]) -> None:
    """The plan's largest micro-batch is one that was padded, as this one is."""
    spec = make_spec(0, "quantization=none", "evaluation=none", *overrides, "training.micro_batch_size=8")
    run = begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda *_: None)
    executor = LocalWorkers(device="cpu", num_workers=1, cohort_size=1, on_out_of_memory="skip")
    memory = Forecaster(executor).memory(spec.config)
    planned = memory.training.total_bytes - memory.training.process_bytes
    assert measured(run, resources).peak_allocated_bytes == pytest.approx(planned, rel=0.03)


@contextmanager
def noted(counter: Allocations, name: str, peaks: dict[str, int]) -> Iterator[None]:
    counter.peak = counter.now
    yield
    peaks[name] = counter.peak


def test_the_fastest_step_is_of_those_that_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, durations = [0.0], iter([0.1, 5.0, 3.0, 4.0, 1.0])  # the first does not count, the last is never made

    def work() -> None:
        now[0] += next(durations)

    for clock in ("perf_counter", "process_time"):  # the processor's where there is one thread
        monkeypatch.setattr(time, clock, lambda: now[0])
    assert time_fastest(work, CPU) == 3.0
