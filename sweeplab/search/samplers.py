"""Builds Optuna's sampler from the configuration, and refuses spaces that it cannot draw from."""

import random
import warnings
from collections.abc import Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import Trial

from sweeplab.config.devices import FIXED
from sweeplab.config.sampler import FinalsSampler, GpSampler, GridSampler, RaceSampler, TpeSampler
from sweeplab.config.search_rules import LISTING
from sweeplab.config.space import Axis
from sweeplab.config.study import StudyConfig
from sweeplab.runtime.errors import refuse


def check_space(config: StudyConfig, varied: Sequence[Axis]) -> None:
    """Raises `ConfigError` for a space that the sampler cannot draw from."""
    name = config.sampler.name
    if name in LISTING:
        for axis in varied:
            axis.points()
    for axis in varied:
        if axis.key in FIXED:
            raise refuse(f"space.{axis.key}", "must be the same in all trials", axis.spec(), f"give {axis.key} itself")
        if axis.when and name in ("qmc", "cmaes"):
            rule = f"does not go with sampler={name}, which needs the same axes in every trial"
            raise refuse(f"space.{axis.key}.when", rule, dict(axis.when), "use sampler=tpe")
        if name == "cmaes" and axis.choices is not None:
            rule = "must be a range for sampler=cmaes, which cannot order choices"
            raise refuse(f"space.{axis.key}", rule, list(axis.choices), "give low and high, or use sampler=tpe")


def build_sampler(config: StudyConfig, varied: Sequence[Axis], number: int) -> BaseSampler:
    """A new sampler for trial `number`, with a seed made of the study's seed and that number.

    So a study that goes on after a stop draws the same points as one that was never stopped. All other state is read
    from Optuna's storage: the trials, the distribution of CMA-ES, the generations of NSGA-II, the position in a
    quasi-random sequence (whose seed is that of the study). Points of a grid or a race are queued, and never drawn.
    """
    section = config.sampler
    if isinstance(section, GridSampler | RaceSampler):
        return RandomSampler(seed=number)
    seed = random.Random(f"{section.seed} {number}").getrandbits(32)
    if isinstance(section, FinalsSampler):
        kind = TpeSampler(seed=section.seed, multivariate=True, constant_liar=True)
        section = kind if section.drawn_by == "tpe" else GpSampler(seed=section.seed)
    options = section.arguments()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match section.name:
            case "tpe":
                grouped = options.get("multivariate", True) and any(axis.when for axis in varied)
                options.setdefault("multivariate", None)
                return TPESampler(seed=seed, group=grouped, **options)
            case "gp":
                return GPSampler(seed=seed, warn_independent_sampling=False, **options)
            case "cmaes":
                return CmaEsSampler(seed=seed, warn_independent_sampling=False, **options)
            case "nsga2":
                return NSGAIISampler(seed=seed, **options)
            case "qmc":
                first = RandomSampler(seed=seed)  # for the first trial, before which it does not know the space
                quiet: dict[str, Any] = {"warn_asynchronous_seeding": False, "warn_independent_sampling": False}
                return QMCSampler(seed=section.seed, independent_sampler=first, **quiet, **options)
            case "brute_force":
                return BruteForceSampler(seed=seed)
    return RandomSampler(seed=seed)


def suggest(trial: Trial, axis: Axis) -> Any:
    """The value of `axis` in `trial`: the stored or queued one, else a new one from the sampler."""
    distribution: Any = axis.distribution()
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(axis.key, distribution.choices)
    ends = {"low": distribution.low, "high": distribution.high, "step": distribution.step, "log": distribution.log}
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(axis.key, **ends)
    return trial.suggest_float(axis.key, **ends)
