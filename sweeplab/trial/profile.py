"""Short measurements before a cohort trains: time and memory of one trial by itself, and the fastest cohort size."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from lightning.fabric.utilities import move_data_to_device

from sweeplab.multilora.batches import CohortBatch
from sweeplab.multilora.dropout import Extent
from sweeplab.multilora.slots import Slot
from sweeplab.records.record import Phase, Solo
from sweeplab.training.attached_cohort import attach_cohort, find_longest_micro_batch, gradient_checkpointing
from sweeplab.training.module import compute_window_shares
from sweeplab.training.running_trial import RunningTrial, list_gradients, start_trial
from sweeplab.trial.measurement import freed_memory_returned, measure_phase, trim_freed_memory
from sweeplab.trial.resources import Resources

_NUM_TIMED_STEPS: Final = 3  # after one that is not timed
_MIN_SPEEDUP: Final = 1.03  # tokens per second of twice as many trials, which need more memory, over those of fewer


@contextmanager
def prepare_longest_pass(trials: Sequence[RunningTrial], resources: Resources) -> Iterator[Callable[[], None]]:
    """Yields a function that runs forward and backward of the cohort's longest micro-batch."""
    base, training = trials[0].base, trials[0].spec.config.training
    batch: CohortBatch = move_data_to_device(find_longest_micro_batch(trials, resources.ranks), resources.device)
    with (
        attach_cohort(trials, resources.ranks) as cohort,
        gradient_checkpointing(base, training.gradient_checkpointing),
    ):
        assert cohort.packed is not None
        cohort.packed.begin_micro_batch(
            [Extent(share.num_rows, share.num_columns) for share in batch.shares], [0] * len(trials)
        )
        base.model.train()

        def forward_and_backward() -> None:
            with torch.enable_grad():
                compute_window_shares(base.model, batch).sum().backward()

        yield forward_and_backward


def time_fastest(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of the fastest of `_NUM_TIMED_STEPS` calls; one call before them is not counted."""
    seconds = []
    for _ in range(_NUM_TIMED_STEPS + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def measure_solo(trial: RunningTrial, resources: Resources) -> Solo:
    """Seconds of an optimizer step and peak bytes of one trial by itself on the base, from steps of a copy of it.

    Memory is that of the loaded base plus what the steps add to the memory in use before them.
    """
    assert trial.slot is not None
    slot = Slot(list(trial.slot.matrices.values()), trial.slot.weights(), trial.spec.seed, trial.slot.as_vectors)
    copy = start_trial(trial.spec, trial.record, trial.base, trial.data, trial.model, slot, lambda *_: None)
    accumulation = trial.spec.config.training.accumulation
    phases: dict[str, Phase] = {}
    trim_freed_memory()
    before = resources.memory_bytes()
    with prepare_longest_pass([copy], resources) as forward_and_backward:

        def step() -> None:
            for weight in copy.parameters:
                assert weight.grad is not None
                weight.grad.zero_()
            for _ in range(accumulation):
                forward_and_backward()
            resources.ranks.sum_tensors(list_gradients([copy]))
            copy.clip_gradients()
            copy.optimizer.step()

        with measure_phase(phases, "solo", resources.device), freed_memory_returned(resources.returned_from_bytes):
            step()
            step()  # the first step creates the optimizer's states
        seconds = time_fastest(step, resources.device)
    (share,) = find_longest_micro_batch([trial], resources.ranks).shares
    return Solo(
        seconds,
        _NUM_TIMED_STEPS,
        share.num_tokens * accumulation,
        peak_resident_bytes=_add_to_base(phases["solo"].peak_resident_bytes, before, resources.base_memory_bytes),
        peak_allocated_bytes=_add_to_base(phases["solo"].peak_allocated_bytes, before, resources.base_memory_bytes),
    )


def _add_to_base(peak: int | None, before: int | None, base: int | None) -> int | None:
    """base + (peak - before), in bytes; None where one of them is not known."""
    return None if peak is None or before is None or base is None else base + peak - before


def measure_fastest_size(trials: Sequence[RunningTrial], resources: Resources) -> int:
    """The number of trials to train at once, at most all of `trials`: it is doubled as long as tokens per second grow
    and the memory suffices."""
    size, best, candidate = 1, 0.0, 1
    while True:
        chosen = trials[:candidate]
        before, phases = resources.memory_bytes(), dict[str, Phase]()
        try:
            with measure_phase(phases, "cohort", resources.device), prepare_longest_pass(chosen, resources) as work:
                seconds = time_fastest(work, resources.device)
        except torch.OutOfMemoryError:
            return size
        speed = sum(share.num_tokens for share in find_longest_micro_batch(chosen, resources.ranks).shares) / seconds
        if speed < best * _MIN_SPEEDUP:
            return size
        size, best = candidate, speed
        peak = phases["cohort"].peak_allocated_bytes or phases["cohort"].peak_resident_bytes
        is_memory_short = peak is not None and before is not None and 2 * (peak - before) > resources.free_bytes()
        if candidate == len(trials) or is_memory_short:
            return size
        candidate = min(2 * candidate, len(trials))
