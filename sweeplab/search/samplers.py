"""Optuna's samplers as conf spells them, and the spaces that each can draw from."""

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
from sweeplab.config.sampler import GridSampler
from sweeplab.config.search_rules import LISTING
from sweeplab.config.space import Axis
from sweeplab.config.study import StudyConfig
from sweeplab.runtime.errors import refuse


def check_space(config: StudyConfig, varied: Sequence[Axis]) -> None:
    """Refuses a space that the sampler cannot draw from. Raises `ConfigError`."""
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
            rule = "must be a range for sampler=cmaes, which has no order for choices"
            raise refuse(f"space.{axis.key}", rule, list(axis.choices), "give low and high, or use sampler=tpe")


def build_sampler(config: StudyConfig, varied: Sequence[Axis], number: int) -> BaseSampler:
    """The sampler for trial `number`, seeded by it: a study that goes on draws what an unbroken one would have drawn.

    What a sampler knows beside its seed, it reads from the storage: the trials, CMA-ES's distribution, NSGA-II's
    generations, the place in a quasi-random sequence. That sequence has one seed for the whole study. Points of a grid
    are queued, so that its sampler is never asked for a value.
    """
    section = config.sampler
    if isinstance(section, GridSampler):
        return RandomSampler(seed=number)
    seed = random.Random(f"{section.seed} {number}").getrandbits(32)
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
                first = RandomSampler(seed=seed)  # it has no sequence before a trial has told it the space
                quiet: dict[str, Any] = {"warn_asynchronous_seeding": False, "warn_independent_sampling": False}
                return QMCSampler(seed=section.seed, independent_sampler=first, **quiet, **options)
            case "brute_force":
                return BruteForceSampler(seed=seed)
    return RandomSampler(seed=seed)


def suggest(trial: Trial, axis: Axis) -> Any:
    """The axis's value in `trial`: stored, queued, or drawn."""
    distribution: Any = axis.distribution()
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(axis.key, distribution.choices)
    ends = {"low": distribution.low, "high": distribution.high, "step": distribution.step, "log": distribution.log}
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(axis.key, **ends)
    return trial.suggest_float(axis.key, **ends)
