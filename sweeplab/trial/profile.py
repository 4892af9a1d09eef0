"""Short measurements before a cohort trains: what each trial needs alone, and how many at once are fastest."""

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
from sweeplab.training.module import window_shares
from sweeplab.training.running_trial import RunningTrial, list_gradients, start_trial
from sweeplab.training.together import checkpointed, find_longest_micro_batch, put_together
from sweeplab.trial.measurement import freed_memory_returned, measured, trim_freed_memory
from sweeplab.trial.resources import Resources

NUM_STEPS: Final = 3  # timed, after one that is not
WORTH_IT: Final = 1.03  # twice as many trials at once, with as much more memory, must be this much faster


@contextmanager
def at_work(trials: Sequence[RunningTrial], resources: Resources) -> Iterator[Callable[[], None]]:
    """Within it a function that does forward and backward of the longest micro-batch for all trials at once."""
    base, training = trials[0].base, trials[0].spec.config.training
    batch: CohortBatch = move_data_to_device(find_longest_micro_batch(trials, resources.ranks), resources.device)
    with put_together(trials, resources.ranks) as together, checkpointed(base, training.gradient_checkpointing):
        assert together.packed is not None
        together.packed.begin([Extent(share.num_rows, share.num_columns) for share in batch.shares], [0] * len(trials))
        base.model.train()

        def forward_and_backward() -> None:
            with torch.enable_grad():
                window_shares(base.model, batch).sum().backward()

        yield forward_and_backward


def fastest(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of the fastest of `NUM_STEPS`, after one that is not counted."""
    seconds = []
    for _ in range(NUM_STEPS + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def measure_solo(trial: RunningTrial, resources: Resources) -> Solo:
    """Time of an optimizer step and peak memory of the trial alone on the base, from steps of a copy of it.

    Memory is what the steps add to what stands before them, on top of what stood once the base was loaded.
    """
    assert trial.slot is not None
    slot = Slot(list(trial.slot.matrices.values()), trial.slot.weights(), trial.spec.seed, trial.slot.whole)
    copy = start_trial(trial.spec, trial.record, trial.base, trial.data, trial.model, slot, lambda *_: None)
    accumulation = trial.spec.config.training.accumulation
    phases: dict[str, Phase] = {}
    trim_freed_memory()
    before = resources.memory_bytes()
    with at_work([copy], resources) as forward_and_backward:

        def step() -> None:
            for weight in copy.parameters:
                assert weight.grad is not None
                weight.grad.zero_()
            for _ in range(accumulation):
                forward_and_backward()
            resources.ranks.sum_tensors(list_gradients([copy]))
            copy.clip_gradients()
            copy.optimizer.step()

        with measured(phases, "solo", resources.device), freed_memory_returned(resources.returned_from_bytes):
            step()
            step()  # optimizers make their states in the first
        seconds = fastest(step, resources.device)
    (share,) = find_longest_micro_batch([trial], resources.ranks).shares
    return Solo(
        seconds,
        NUM_STEPS,
        share.num_tokens * accumulation,
        peak_resident_bytes=_above(phases["solo"].peak_resident_bytes, before, resources.base_memory_bytes),
        peak_allocated_bytes=_above(phases["solo"].peak_allocated_bytes, before, resources.base_memory_bytes),
    )


def _above(peak: int | None, before: int | None, base: int | None) -> int | None:
    return None if peak is None or before is None or base is None else base + peak - before


def measure_fastest_size(trials: Sequence[RunningTrial], resources: Resources) -> int:
    """How many of the trials at once: twice as many again, while that is faster per token, and fits; measured."""
    size, best, candidate = 1, 0.0, 1
    while True:
        chosen = trials[:candidate]
        before, phases = resources.memory_bytes(), dict[str, Phase]()
        try:
            with measured(phases, "cohort", resources.device), at_work(chosen, resources) as work:
                seconds = fastest(work, resources.device)
        except torch.OutOfMemoryError:
            return size
        speed = sum(share.num_tokens for share in find_longest_micro_batch(chosen, resources.ranks).shares) / seconds
        if speed < best * WORTH_IT:
            return size
        size, best = candidate, speed
        peak = phases["cohort"].peak_allocated_bytes or phases["cohort"].peak_resident_bytes
        tight = peak is not None and before is not None and 2 * (peak - before) > resources.free_bytes()
        if candidate == len(trials) or tight:
            return size
        candidate = min(2 * candidate, len(trials))
