"""Builds Optuna's pruner from the configuration. Its steps are the optimizer steps after which the held-out loss is
measured."""

import math
import warnings
from collections.abc import Sequence
from typing import Final

from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeplab.config.sampler import HalvingPruner, SchedulePruner
from sweeplab.config.space import Axis
from sweeplab.config.study import StudyConfig
from sweeplab.records.record import HeldoutPoint
from sweeplab.search.outcome import find_loss_sign
from sweeplab.search.queue import SEED

NUM_STEPS: Final = "num_steps"  # user attribute of a trial with a held-out loss: all its optimizer steps
_ROUNDING: Final = 1e-9


def _num_longest_steps(config: StudyConfig, varied: Sequence[Axis]) -> int:
    """Optimizer steps of the study's longest trial, from `training.max_steps`; 0 where that is not given."""
    steps = [config.training.max_steps or 0]
    for axis in varied:
        if axis.key == "training.max_steps":
            steps = [int(one) for one in (axis.choices or (axis.high,)) if isinstance(one, int | float)]
    return max(steps)


def _first_rung(config: StudyConfig, varied: Sequence[Axis]) -> int | None:
    """The step of the first rung, where the configuration gives none: for ASHA a quarter of the longest trial.

    With a first rung at a sixteenth of a cosine schedule, learning rates that are too high have the lowest loss there,
    and ASHA stopped the best setting in 4 of 10 studies; with a quarter in none (experiments/asha). Hyperband gets the
    first held-out loss, since its brackets already begin at different rungs.
    """
    interval = config.training.heldout_interval
    steps = None if interval is None else int(interval)
    return max(steps or 0, _num_longest_steps(config, varied) // 4) if config.pruner.name == "asha" else steps


class _SchedulePruner(BasePruner):
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


def build_pruner(config: StudyConfig, varied: Sequence[Axis]) -> BasePruner:
    """The pruner of a study. It keeps no state: all that it needs is stored in the trials."""
    section = config.pruner
    options = section.arguments()
    if isinstance(section, HalvingPruner):
        options.setdefault("min_resource", _first_rung(config, varied))
    if isinstance(section, SchedulePruner):
        return _SchedulePruner(section, config.study.seeds[0], find_loss_sign(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match section.name:
            case "asha":
                return SuccessiveHalvingPruner(**options)
            case "hyperband":
                return HyperbandPruner(max_resource=_num_longest_steps(config, varied), **options)
            case "median":
                return MedianPruner(**options)
            case "wilcoxon":
                return WilcoxonPruner(**options)
            case "patient":
                return PatientPruner(None, **options)
    return NopPruner()


def lay_out_brackets(study: Study) -> None:
    """Makes Hyperband create its brackets now. It would create them at its first decision, and put every trial before
    that into bracket 0.

    Afterwards the bracket of a trial depends on the study's name and the trial's number only. On other pruners the
    call has no effect, since a trial without a held-out loss gives them nothing to decide.
    """
    study.pruner.prune(study, create_trial(state=TrialState.RUNNING))
