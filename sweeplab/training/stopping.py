"""Trials that a person stops: they end after the step that they are at, and change nothing in the others."""

from collections.abc import Collection, Sequence

from sweeplab.runtime.process_group import Ranks
from sweeplab.training.running_trial import RunningTrial

_NONE = -1


class StoppedByHand(Exception):
    """Everything that is computed now is for trials that a person stopped."""


def stop_trials(trials: Sequence[RunningTrial], stopping: Collection[int], ranks: Ranks) -> None:
    """Ends those of the trials whose numbers are in `stopping`, and that have not ended early.

    With several devices the first one says which, so that a trial ends at the same step in each.
    """

    def find_next() -> int:
        return next((one.spec.number for one in trials if one.early_end is None and one.spec.number in stopping), _NONE)

    while (number := ranks.broadcast_first(find_next())) != _NONE:
        for trial in trials:
            if trial.spec.number == number:
                trial.stop_by_hand()
