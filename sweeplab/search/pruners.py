"""Optuna's pruners as conf spells them; their steps are optimizer steps at which the held-out loss is measured."""

import warnings
from collections.abc import Sequence
from typing import Any

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
from optuna.trial import TrialState, create_trial

from sweeplab.config.search_rules import PRUNERS
from sweeplab.config.space import Axis
from sweeplab.config.study import StudyConfig


def _num_longest_steps(config: StudyConfig, varied: Sequence[Axis]) -> int:
    """Optimizer steps of the study's longest trial, where `training.max_steps` says them."""
    steps = [config.training.max_steps or 0]
    for axis in varied:
        if axis.key == "training.max_steps":
            steps = [int(one) for one in (axis.choices or (axis.high,)) if isinstance(one, int | float)]
    return max(steps)


def _first_rung(config: StudyConfig, varied: Sequence[Axis]) -> int | None:
    """Steps before ASHA prunes at first, where none are given: a quarter of the longest trial.

    With a first rung at a sixteenth of a cosine schedule, rates that were too high led there, and ASHA lost the best
    setting in 4 studies of 10; with a quarter in none (experiments/asha). Hyperband's brackets differ in their first.
    """
    interval = config.training.heldout_interval
    return max(interval or 0, _num_longest_steps(config, varied) // 4) if config.pruner.name == "asha" else interval


def build_pruner(config: StudyConfig, varied: Sequence[Axis]) -> BasePruner:
    """The pruner of a study. It remembers nothing itself: all that it needs is in the trials."""
    section = config.pruner
    said = {option: getattr(section, option) for option in PRUNERS[section.name]}
    options: dict[str, Any] = {option: value for option, value in said.items() if value is not None}
    if "min_resource" in said:
        options.setdefault("min_resource", _first_rung(config, varied))
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
    """Lets Hyperband lay out its brackets now: before its first decision it would give every trial to bracket 0.

    From then on a trial's bracket follows from the study's name and the trial's number alone. Other pruners are left
    as they are, since a trial without a held-out loss gives them nothing to decide.
    """
    study.pruner.prune(study, create_trial(state=TrialState.RUNNING))
