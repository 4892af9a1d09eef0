"""A short measurement before a cohort trains: time and memory of one trial by itself.

It is made where trials share a pass, once for all trials of one layout. The time and memory of a trial that trains
alone are those of its training.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Final, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch.profiler import record_function

from sweeplab.data.batches import Batch
from sweeplab.data.images import ImageBatch
from sweeplab.evaluation.heldout import measure_heldout_losses
from sweeplab.models.behavior import random_numbers_kept
from sweeplab.multilora.batches import CohortBatch
from sweeplab.multilora.dropout import Extent
from sweeplab.multilora.slots import Slot
from sweeplab.records.record import Phase, Solo
from sweeplab.runtime.process_group import Ranks
from sweeplab.training.attached_cohort import attach_cohort, find_longest_micro_batch, gradient_checkpointing
from sweeplab.training.module import compute_window_shares, estimate_curvature, sum_row_losses
from sweeplab.training.optimizers import evaluation_weights
from sweeplab.training.running_trial import OptimizerBytes, RunningTrial, list_gradients
from sweeplab.training.sophia import SophiaG
from sweeplab.training.start import start_trial
from sweeplab.trial.measurement import freed_memory_returned, measure_phase, trim_freed_memory
from sweeplab.trial.resources import Resources
from sweeplab.trial.tensor_count import TensorCount, count_tensors, measure_standing_bytes

_NUM_TIMED_STEPS: Final = 3  # after one that is not timed
_WEIGHTS_TO_SPARE: Final = 8  # a copy, gradients, up to three states, and their step's own copies
_STEPS: Final = "steps"
_EVALUATION: Final = "evaluation"


@contextmanager
def prepare_passes(trials: Sequence[RunningTrial], resources: Resources) -> Iterator[Callable[..., None]]:
    """Yields a function that runs forward and backward of a micro-batch of the cohort, and between them what it is
    given."""
    base, training, model = trials[0].base, trials[0].spec.config.training, trials[0].model
    with (
        attach_cohort(trials, resources.ranks) as cohort,
        gradient_checkpointing(base, training.gradient_checkpointing),
    ):
        model.train()

        def forward_and_backward(batch: CohortBatch, between: Callable[[], None] = lambda: None) -> None:
            if cohort.packed is not None:
                extents = [Extent(share.num_rows, share.num_columns) for share in batch.shares]
                cohort.packed.begin_micro_batch(extents, [0] * len(trials))
            with torch.enable_grad():
                loss = compute_window_shares(model, batch).sum()
                between()
                loss.backward()

        yield forward_and_backward


@contextmanager
def prepare_longest_pass(trials: Sequence[RunningTrial], resources: Resources) -> Iterator[Callable[..., None]]:
    """As `prepare_passes`, of the cohort's longest micro-batch."""
    batch: CohortBatch = move_data_to_device(find_longest_micro_batch(trials, resources.ranks), resources.device)
    with prepare_passes(trials, resources) as run:
        yield partial(run, batch)


class _StepTime(NamedTuple):
    seconds: float
    processor_seconds: float  # of all threads of this process


def _time_steps(work: Callable[[], None], device: torch.device) -> list[_StepTime]:
    """The times of `_NUM_TIMED_STEPS` calls; one call before them is not counted."""
    times = []
    for _ in range(_NUM_TIMED_STEPS + 1):
        started, processor_started = time.perf_counter(), time.process_time()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(_StepTime(time.perf_counter() - started, time.process_time() - processor_started))
    return times[1:]


def time_fastest(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of the fastest of `_NUM_TIMED_STEPS` calls; one call before them is not counted. On a CPU with one thread
    without those in which other work had its core."""
    times = _time_steps(work, device)
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return min(min(one) for one in times)
    return min(one.seconds for one in times)


def measure_solo(trial: RunningTrial, resources: Resources) -> Solo | None:
    """Times of an optimizer step and peak bytes of one trial by itself on the base, from steps of a copy of it.

    The resident set, and what CUDA's allocator gave out, are those of the loaded base plus what the steps add to the
    memory in use before them. On a CPU the bytes of tensors are counted (`tensor_count`) and added to the model's.

    A trial that has the base for itself takes these steps with its own weights, which get their values back. None
    where that is not needed, since its phases say the same (on CUDA), or where memory is short for a copy of them.
    """
    if trial.slot is None and not resources.ranks.broadcast_first(_can_keep_weights(trial, resources)):
        return None
    device, phases = resources.device, dict[str, Phase]()
    base, batch_size = trial.base, trial.spec.config.evaluation.batch_size
    batches = trial.data.heldout_batches(base.pad_id, batch_size, base.growing_length)
    longest = max(batches, key=lambda batch: batch[0].numel())  # tokens or pixels
    gc.collect()  # tensors in cycles would be freed at some moment of the steps
    trim_freed_memory()
    with ExitStack() as stack:
        if trial.slot is None:
            stack.enter_context(_weights_kept(trial, device))
        before, standing = resources.memory_bytes(), _find_standing_bytes(trial, device)
        with nullcontext(TensorCount()) if standing is None else count_tensors() as count:
            copy = _copy_trial(trial)
            stack.callback(copy.free)
            forward_and_backward = stack.enter_context(prepare_longest_pass([copy], resources))
            step = partial(_take_step, copy, resources.ranks, forward_and_backward)
            with (
                measure_phase(phases, "solo", device),
                freed_memory_returned(resources.returned_from_bytes),
                record_function(_STEPS),
            ):
                step()
                step()  # the first step creates the optimizer's states
            if standing is not None:
                _measure_loss(copy, longest, device)
        times = _time_steps(step, device)
        trial.optimizer_bytes = _measure_optimizer(copy, device)
    seconds = [one.seconds for one in times]
    (share,) = find_longest_micro_batch([trial], resources.ranks).shares
    allocated, evaluation = count.peak_bytes(_STEPS), count.peak_bytes(_EVALUATION)
    if standing is None:
        allocated, standing = _add_to_base(phases["solo"].peak_allocated_bytes, before, resources.base_memory_bytes), 0
    return Solo(
        min(seconds),
        _NUM_TIMED_STEPS,
        share.num_tokens * trial.spec.config.training.accumulation,
        peak_resident_bytes=_add_to_base(phases["solo"].peak_resident_bytes, before, resources.base_memory_bytes),
        peak_allocated_bytes=None if allocated is None else standing + allocated,
        evaluation_peak_allocated_bytes=None if evaluation is None else standing + evaluation,
        median_step_seconds=statistics.median(seconds),
        slowest_step_seconds=max(seconds),
        step_processor_seconds=min(one.processor_seconds for one in times) if device.type == "cpu" else None,
    )


def _measure_optimizer(trial: RunningTrial, device: torch.device) -> OptimizerBytes:
    """What the optimizer holds after its first step, and on CUDA what a step of it needs for a moment."""
    states = sum(
        value.nbytes
        for state in trial.optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )
    if device.type != "cuda":
        return OptimizerBytes(states, 0)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    trial.step_optimizer()
    return OptimizerBytes(states, torch.cuda.max_memory_allocated(device) - before)


def _can_keep_weights(trial: RunningTrial, resources: Resources) -> bool:
    """True on a CPU with room for a copy of the trained weights beside what training will need."""
    trained_bytes = sum(weight.nbytes for weight in trial.parameters)
    return resources.device.type == "cpu" and _WEIGHTS_TO_SPARE * trained_bytes <= resources.free_bytes()


@contextmanager
def _weights_kept(trial: RunningTrial, device: torch.device) -> Iterator[None]:
    """Gives the trained weights their values back afterwards, without gradients, and the generators their states."""
    kept = [weight.detach().clone() for weight in trial.parameters]
    try:
        with random_numbers_kept(device):
            yield
    finally:
        for weight, values in zip(trial.parameters, kept, strict=True):
            weight.grad = None
            weight.data.copy_(values)


def _find_standing_bytes(trial: RunningTrial, device: torch.device) -> int | None:
    """Bytes of the model before any step; None where they are not counted: on CUDA, and of a base in parts."""
    is_counted = device.type == "cpu" and trial.spec.config.training.strategy != "fsdp"
    return measure_standing_bytes(trial.model) if is_counted else None


def _copy_trial(trial: RunningTrial) -> RunningTrial:
    """A trial before its first step with a slot of its own, or with the same weights where it has no slot."""
    slot = None
    if trial.slot is not None:
        own = trial.slot
        slot = Slot(list(own.matrices.values()), own.weights(), own.seed, own.as_vectors, own.by_rank)
    return start_trial(trial.spec, trial.record, trial.base, trial.data, trial.model, slot, lambda *_: None)


def _take_step(trial: RunningTrial, ranks: Ranks, forward_and_backward: Callable[..., None]) -> None:
    """An optimizer step as Lightning takes it: the last step's gradients go after the first forward."""

    def zero_gradients() -> None:
        for weight in trial.parameters:
            if trial.slot is None:
                weight.grad = None
            elif weight.grad is not None:
                weight.grad.zero_()

    for index in range(trial.spec.config.training.accumulation):
        forward_and_backward(zero_gradients if index == 0 else lambda: None)
    ranks.sum_tensors(list_gradients([trial]))
    if isinstance(trial.optimizer, SophiaG) and trial.optimizer.needs_estimate:
        rows = find_longest_micro_batch([trial], ranks).rows
        estimate_curvature(trial.model, move_data_to_device(rows, trial.parameters[0].device), trial.optimizer, 0)
    trial.clip_gradients()
    trial.step_optimizer()


def _measure_loss(trial: RunningTrial, batch: Batch | ImageBatch, device: torch.device) -> None:
    """The held-out loss of a batch, with gradients and the optimizer's states standing, as after training."""
    with record_function(_EVALUATION), evaluation_weights(trial.optimizer):
        measure_heldout_losses(trial.model, [batch], sum_row_losses, device)


def _add_to_base(peak: int | None, before: int | None, base: int | None) -> int | None:
    """base + (peak - before), in bytes; None where one of them is not known."""
    return None if peak is None or before is None or base is None else base + peak - before
