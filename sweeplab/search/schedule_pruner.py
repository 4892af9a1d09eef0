"""`pruner=schedule`: curves are compared at equal shares of their schedules."""

import math
from typing import Final

from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from sweeplab.config.sampler import SchedulePruner
from sweeplab.records.record import HeldoutPoint
from sweeplab.search.queue import SEED

NUM_STEPS: Final = "num_steps"  # user attribute of a trial with a held-out loss: all its optimizer steps
_ROUNDING: Final = 1e-9


class CurvePruner(BasePruner):
    """Compares trials with the first seed at equal shares of their schedules."""

    def __init__(self, section: SchedulePruner, seed: int, sign: float) -> None:
        self.section = section
        self.seed = seed
        self.sign = sign  # of reported losses, `find_loss_sign`

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        if trial.user_attrs.get(SEED) != self.seed:
            return False
        last = trial.last_step
        for rung in self.section.rungs:
            reached = _find_at(trial, rung)
            if reached is None or reached.step != last:
                continue
            others = [_find_at(one, rung) for one in study.get_trials(deepcopy=False) if self._is_rival(one, trial)]
            losses = sorted([self.sign * one.loss for one in (reached, *others) if one is not None])
            if self.sign * reached.loss > losses[max(1, len(losses) // self.section.reduction_factor) - 1]:
                return True
        return False

    def _is_rival(self, one: FrozenTrial, trial: FrozenTrial) -> bool:
        return one.number != trial.number and one.user_attrs.get(SEED) == self.seed


def _find_at(trial: FrozenTrial, rung: float) -> HeldoutPoint | None:
    """The first held-out loss after a share of the trial's steps; None where it has not come so far."""
    least = rung * trial.user_attrs.get(NUM_STEPS, math.inf) - _ROUNDING
    steps = [step for step in trial.intermediate_values if step >= least]
    return HeldoutPoint(min(steps), trial.intermediate_values[min(steps)]) if steps else None
