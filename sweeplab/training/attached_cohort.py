"""A cohort attached to its base: the adapters of trials that train together, and whose rows stand where in a batch."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from sweeplab.models.base import Base
from sweeplab.multilora.batches import CohortBatch, build_longest_batch, build_typical_batch
from sweeplab.multilora.packed import PackedAdapters
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.training.running_trial import RunningTrial


class AttachedCohort(NamedTuple):
    """Trials whose adapters are attached to one base."""

    trials: list[RunningTrial]  # in the order of their rows in a batch
    packed: PackedAdapters | None  # None for an exclusive trial, whose adapter is part of the model

    def only(self, trials: Sequence[RunningTrial]) -> AbstractContextManager[None]:
        """Within it a batch holds the rows of these trials only, and each goes through its own adapter."""
        if self.packed is None:
            return nullcontext()
        return self.packed.only([trial.slot for trial in trials if trial.slot is not None])


@contextmanager
def attach_cohort(
    trials: Sequence[RunningTrial], ranks: Ranks = ONE_PROCESS, trains: bool = True
) -> Iterator[AttachedCohort]:
    """Within it the trials' adapters are attached to their base; afterwards the base computes what it did before.

    Where nothing `trains`, there are no gradients.
    """
    slots = [trial.slot for trial in trials if trial.slot is not None]
    if not slots:
        yield AttachedCohort(list(trials), None)
        return
    assert all(trial.model is trials[0].base.model for trial in trials), "trials that train together share one base"
    for trial in trials:
        trial.unpark()
    with PackedAdapters(trials[0].base.model, slots, ranks, trains) as packed:
        ordered = sorted(trials, key=lambda trial: [slot is trial.slot for slot in packed.slots].index(True))
        yield AttachedCohort(ordered, packed)


@contextmanager
def gradient_checkpointing(base: Base, on: bool) -> Iterator[None]:
    """Within it, where `on`, activations are not stored but computed again in the backward."""
    if on:
        base.model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        if on:
            base.model.gradient_checkpointing_disable()
            base.model.disable_input_require_grads()  # the hook on the embedding that transformers leaves behind


def find_longest_micro_batch(trials: Sequence[RunningTrial], ranks: Ranks) -> CohortBatch:
    """The micro-batch of a cohort that needs the most time and memory."""
    windows = [trial.windows for trial in trials]
    return build_longest_batch(windows, trials[0].base.pad_id, ranks, trials[0].column_multiple)


def find_typical_micro_batch(trials: Sequence[RunningTrial], ranks: Ranks) -> CohortBatch:
    """A micro-batch of a cohort as wide as they are in the mean."""
    windows = [trial.windows for trial in trials]
    return build_typical_batch(windows, trials[0].base.pad_id, ranks, trials[0].column_multiple)
