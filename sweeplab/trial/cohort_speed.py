"""The fastest number of trials to train at once, measured before a cohort trains on the device that trains it.

Memory has to suffice for the longest micro-batch; which number is faster is a matter of those that come most. On a GPU
short rows gain the most from company, long ones nothing.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import torch
from lightning.fabric.utilities import move_data_to_device

from sweeplab.records.record import Phase
from sweeplab.runtime.out_of_memory import free_failed, is_out_of_memory
from sweeplab.training.attached_cohort import find_longest_micro_batch, find_typical_micro_batch
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial.measurement import measure_phase
from sweeplab.trial.profile import prepare_passes, time_fastest
from sweeplab.trial.resources import Resources

_CLEAR_SPEEDUP: Final = 1.15  # which no noise of a few steps makes up
_MIN_SPEEDUP: Final = 1.03  # trials per second of twice as many trials, which need more memory, over those of fewer


def measure_fastest_size(trials: Sequence[RunningTrial], resources: Resources) -> int:
    """The number of trials to train at once, at most all of `trials`: it is doubled as long as typical micro-batches
    get faster by it and the memory suffices, for the longest one and the optimizers' states together.

    A small gain is looked at twice, in turn with what it is compared with: other work on the machine moves both.
    """
    size, candidate = 1, 1
    fastest: dict[int, float] = {}
    while True:
        before = resources.memory_bytes()
        peak = _add_speed(fastest, trials[:candidate], resources)
        if candidate not in fastest:
            return size
        if candidate > 1 and _MIN_SPEEDUP <= fastest[candidate] / fastest[size] < _CLEAR_SPEEDUP:
            _add_speed(fastest, trials[:size], resources)
            _add_speed(fastest, trials[:candidate], resources)
        if candidate > 1 and fastest[candidate] < fastest[size] * _MIN_SPEEDUP:
            return size
        size = candidate
        states = 0 if resources.device.type == "cuda" else sum(trial.optimizer_bytes.states for trial in trials[:size])
        is_memory_short = (
            peak is not None and before is not None and 2 * (peak - before + states) > resources.free_bytes()
        )
        if candidate == len(trials) or is_memory_short:
            return size
        candidate = min(2 * candidate, len(trials))


def _add_speed(fastest: dict[int, float], trials: Sequence[RunningTrial], resources: Resources) -> int | None:
    """Notes how many trials of so many at once have their micro-batch in a second, where it is the highest so far;
    nothing where memory is short. Returns the peak of memory in bytes."""
    phases: dict[str, Phase] = {}
    try:
        with measure_phase(phases, "cohort", resources.device), prepare_passes(trials, resources) as run:
            _run_longest(run, trials, resources)
            typical = move_data_to_device(find_typical_micro_batch(trials, resources.ranks), resources.device)
            seconds = time_fastest(partial(run, typical), resources.device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        free_failed(error)
        return None
    fastest[len(trials)] = max(fastest.get(len(trials), 0.0), len(trials) / seconds)
    return phases["cohort"].peak_allocated_bytes or phases["cohort"].peak_resident_bytes


def _run_longest(run: Callable[..., None], trials: Sequence[RunningTrial], resources: Resources) -> None:
    """The longest micro-batch, with as much memory of a GPU taken as the optimizers will hold and need in a step.

    Their states come with the first step only, and the longest micro-batch may come after it.
    """
    device, sizes = resources.device, [trial.optimizer_bytes for trial in trials]
    num_bytes = sum(one.states for one in sizes) if device.type == "cuda" else 0
    held = torch.empty(num_bytes, dtype=torch.uint8, device=device)
    run(move_data_to_device(find_longest_micro_batch(trials, resources.ranks), device))
    torch.empty(max(one.step for one in sizes), dtype=torch.uint8, device=device)
    del held
