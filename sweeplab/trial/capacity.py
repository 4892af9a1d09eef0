"""How many trials of a cohort train at a time, and what each needs alone: measured before they share a pass."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from sweeplab.config.shared_base import describe_layout, pays_to_measure
from sweeplab.records.record import Phase
from sweeplab.runtime.out_of_memory import is_out_of_memory, known_as_out_of_memory
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial.beginning import asks_for_solo
from sweeplab.trial.cohort_speed import measure_fastest_size
from sweeplab.trial.measurement import add_phase, measure_phase
from sweeplab.trial.profile import measure_solo
from sweeplab.trial.resources import Resources


def choose_capacity(trials: Sequence[RunningTrial], resources: Resources) -> int:
    """How many of the trials, of one geometry, train at once; it is measured again only where more of them than before
    may be faster still, and on a CPU not where that would take longer than it can save.

    Where it is one at a time, they are not measured alone: their training will say what they need.
    """
    sizes, geometry, count = resources.fastest_sizes, str(trials[0].spec.geometry), len(trials)
    size, most = sizes.get(geometry, (0, 0))
    num_left = sum(trial.num_micro_batches_left for trial in trials)
    if most == 0 and not pays_to_measure(num_left, resources.device.type):
        size = 1
    elif size == most < count:
        _measure_optimizers(trials, resources)
        _measure(trials, resources, lambda: sizes.update({geometry: (measure_fastest_size(trials, resources), count)}))
        size, _ = sizes[geometry]
    if size > 1:
        measure_missing(trials, resources)
        return size
    for trial in trials:
        if trial.record.solo is not None and not asks_for_solo(trial.spec):  # it needs as little as the others
            trial.record.solo = None
            resources.solos.pop(describe_layout(trial.spec.config), None)
    return size


def halve_capacity(trials: Sequence[RunningTrial], error: Exception, resources: Resources) -> int:
    """Half of the trials, which failed together. Where memory was short and all of it this process's own, later trials
    of their geometry begin with so many."""
    half = len(trials) // 2
    if is_out_of_memory(error) and resources.foreign_bytes() == 0:
        resources.fastest_sizes[str(trials[0].spec.geometry)] = (half, len(trials))
    return half


def measure_missing(trials: Sequence[RunningTrial], resources: Resources) -> None:
    """What each trial needs alone, where it was not measured yet."""
    for trial in trials:
        if trial.record.solo is None:
            _measure([trial], resources, partial(_measure_solo, trial, resources))


def _measure(trials: Sequence[RunningTrial], resources: Resources, work: Callable[[], None]) -> None:
    """Does `work`, which measures before a training, as a phase of its own."""
    phases: dict[str, Phase] = {}
    resources.tell("measuring", [trial.spec.number for trial in trials])
    with measure_phase(phases, "profile", resources.device):
        work()
    for trial in trials:
        add_phase(trial.record.phases, "profile", phases["profile"])


def _measure_optimizers(trials: Sequence[RunningTrial], resources: Resources) -> None:
    """What the trials' optimizers hold: measured of each on a GPU, and on a CPU of one, which says it of others by
    their weights."""
    if resources.device.type == "cuda":
        measure_missing(trials, resources)
        return
    first, *others = trials
    measure_missing([first], resources)
    for trial in others:
        if trial.record.solo is None:
            trial.optimizer_bytes = first.optimizer_bytes.scaled(trial.num_weights / first.num_weights)


def _measure_solo(trial: RunningTrial, resources: Resources) -> None:
    """What the trial needs alone; it is measured once for all trials of its layout."""
    solos, layout = resources.solos, describe_layout(trial.spec.config)
    if layout not in solos:
        try:
            with known_as_out_of_memory():
                solos[layout] = measure_solo(trial, resources)
        except torch.OutOfMemoryError:  # the training will say so, or has shorter batches
            if resources.ranks.size > 1:
                raise  # other devices wait
            solos[layout] = None
        resources.optimizer_bytes[layout] = trial.optimizer_bytes
    trial.record.solo, trial.optimizer_bytes = solos[layout], resources.optimizer_bytes[layout]
