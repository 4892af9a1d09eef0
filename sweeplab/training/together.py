"""Trials that train together: their adapters beside one base, each trial's rows of a batch after another's."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from sweeplab.models.base import Base
from sweeplab.multilora.batches import CohortBatch, longest_batch
from sweeplab.multilora.packed import Packed
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.training.running_trial import RunningTrial


class Together(NamedTuple):
    """Trials whose adapters stand beside one base."""

    trials: list[RunningTrial]  # in the order of their rows
    packed: Packed | None  # None for a trial that has the model for itself

    def only(self, trials: Sequence[RunningTrial]) -> AbstractContextManager[None]:
        """Within it the model is that of these trials, and a batch holds their rows only."""
        if self.packed is None:
            return nullcontext()
        return self.packed.only([trial.slot for trial in trials if trial.slot is not None])


@contextmanager
def put_together(trials: Sequence[RunningTrial], ranks: Ranks = ONE_PROCESS) -> Iterator[Together]:
    """Within it the trials' adapters stand beside their base, which is as it was afterwards."""
    slots = [trial.slot for trial in trials if trial.slot is not None]
    if not slots:
        yield Together(list(trials), None)
        return
    assert all(trial.model is trials[0].base.model for trial in trials), "trials that train together stand on one base"
    with Packed(trials[0].base.model, slots, ranks) as packed:
        ordered = sorted(trials, key=lambda trial: [slot is trial.slot for slot in packed.slots].index(True))
        yield Together(ordered, packed)


@contextmanager
def checkpointed(base: Base, on: bool) -> Iterator[None]:
    """Within it activations are computed again in the backward instead of being kept."""
    if on:
        base.model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        if on:
            base.model.gradient_checkpointing_disable()
            base.model.disable_input_require_grads()  # the hook on the embedding that transformers leaves behind


def find_longest_micro_batch(trials: Sequence[RunningTrial], ranks: Ranks) -> CohortBatch:
    """What needs the most time and memory of a cohort."""
    return longest_batch([trial.windows for trial in trials], trials[0].base.pad_id, ranks)
