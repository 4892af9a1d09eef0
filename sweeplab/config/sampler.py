"""How a study searches and prunes, in Optuna's words: one class for each sampler.name and each pruner.name."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from sweeplab.records.section import Section, key
from sweeplab.runtime.errors import refuse

_OWN = "use null for Optuna's own"


def _least(meaning: str, least: float, default: Any = None, **more: Any) -> Any:
    return key(f"{meaning}; null: Optuna's own", default, ge=least, remedy=_OWN, **more)


def _share(meaning: str) -> Any:
    return key(f"{meaning}; null: Optuna's own", None, ge=0, le=1, remedy=_OWN)


class SamplerConfig(Section):
    """What every sampler has."""

    name: str

    def arguments(self) -> dict[str, Any]:
        """What Optuna's own class is given beside a seed."""
        return self.model_dump(exclude={"name", "seed"}, exclude_none=True)


class GridSampler(SamplerConfig):
    """Every point of the space, seed by seed."""

    name: Literal["grid"] = "grid"


class RaceSampler(SamplerConfig):
    """Every point of the space, with as many seeds as its place needs: until the best is known to `study.within`."""

    name: Literal["race"] = "race"


class DrawingSampler(SamplerConfig):
    """What every sampler has that draws by chance."""

    seed: int = key("random seed of the sampler")


class RandomSampler(DrawingSampler):
    """Points drawn independently."""

    name: Literal["random"] = "random"


class QmcSampler(DrawingSampler):
    """Quasi-random points that fill the space evenly. Bergstra and Bengio 2012."""

    name: Literal["qmc"] = "qmc"
    qmc_type: Literal["sobol", "halton"] | None = key("the sequence; null: Optuna's own", None)
    scramble: bool | None = key("shift the sequence at random; null: Optuna's own", None)


class TpeSampler(DrawingSampler):
    """Optuna's tree-structured Parzen estimator. Bergstra et al. 2011."""

    name: Literal["tpe"] = "tpe"
    n_startup_trials: int | None = _least("trials drawn at random before the model begins", 0)
    n_ei_candidates: int | None = _least("candidates of each draw", 1)
    multivariate: bool | None = key("draw axes together; null: Optuna's own", None)
    constant_liar: bool | None = key(
        "take running trials as bad, so that a cohort spreads out; null: Optuna's own", None
    )


class GpSampler(DrawingSampler):
    """Optuna's Gaussian process; good where trials are few and expensive."""

    name: Literal["gp"] = "gp"
    n_startup_trials: int | None = _least("trials drawn at random before the model begins", 0)
    deterministic_objective: bool | None = key("a setting always scores the same; null: Optuna's own", None)


class FinalsSampler(DrawingSampler):
    """Settings drawn by a sampler that learns, with one seed; the best of them race with other seeds."""

    name: Literal["finals"] = "finals"
    drawn_by: Literal["tpe", "gp"] = key("the sampler that draws, with Optuna's own options")
    num_drawn: int = key("number of settings to draw and train with the first of study.seeds", ge=2, remedy="try 30")
    num_finalists: int = key("number of the best drawn settings, which race with the other seeds", ge=2, remedy="try 5")


class CmaesSampler(DrawingSampler):
    """Covariance matrix adaptation. Hansen and Ostermeier 2001."""

    name: Literal["cmaes"] = "cmaes"
    n_startup_trials: int | None = _least("trials drawn at random before the model begins", 0)
    popsize: int | None = _least("points of a generation", 4)  # with fewer it has one parent and divides by 0


class Nsga2Sampler(DrawingSampler):
    """A genetic search for several objectives. Deb et al. 2002."""

    name: Literal["nsga2"] = "nsga2"
    population_size: int | None = _least("points of a generation", 2)
    mutation_prob: float | None = _share("chance that an axis is drawn anew")
    crossover_prob: float | None = _share("chance that two parents are crossed")
    swapping_prob: float | None = _share("chance that an axis is of the second parent")


class BruteForceSampler(DrawingSampler):
    """Every point of the space once, in random order."""

    name: Literal["brute_force"] = "brute_force"


AnySampler = Annotated[
    GridSampler
    | RaceSampler
    | RandomSampler
    | QmcSampler
    | TpeSampler
    | GpSampler
    | FinalsSampler
    | CmaesSampler
    | Nsga2Sampler
    | BruteForceSampler,
    Field(discriminator="name"),
]


class PrunerConfig(Section):
    """What every pruner has. Resources and steps are optimizer steps."""

    name: str

    def arguments(self) -> dict[str, Any]:
        """What Optuna's own class is given."""
        return self.model_dump(exclude={"name"}, exclude_none=True)


class NoPruner(PrunerConfig):
    """Every trial trains to its end."""

    name: Literal["none"] = "none"


class HalvingPruner(PrunerConfig):
    """At each rung one trial in reduction_factor goes on."""

    min_resource: int | None = key(
        "the first rung; null: a quarter of max_steps for asha, heldout_interval for hyperband",
        None,
        ge=1,
        unit="optimizer steps",
        remedy=_OWN,
    )
    reduction_factor: int | None = _least("one in this many trials goes on", 2)
    bootstrap_count: int | None = _least("trials of a rung before any goes on", 0)


class AshaPruner(HalvingPruner):
    """One bracket, without waiting for others. Li et al. 2020."""

    name: Literal["asha"] = "asha"


class HyperbandPruner(HalvingPruner):
    """Several brackets that begin to prune at different steps. Li et al. 2018."""

    name: Literal["hyperband"] = "hyperband"


class MedianPruner(PrunerConfig):
    """Stops a trial whose best held-out loss is worse than the median at the same step."""

    name: Literal["median"] = "median"
    n_startup_trials: int | None = _least("finished trials before any is pruned", 0)
    n_warmup_steps: int | None = _least("steps before any trial is pruned", 0, unit="optimizer steps")


class WilcoxonPruner(PrunerConfig):
    """Stops a trial that is behind the best one over the rungs they share."""

    name: Literal["wilcoxon"] = "wilcoxon"
    p_threshold: float | None = _share("largest p of the signed-rank test")
    n_startup_steps: int | None = _least("rungs before any trial is pruned", 0)


class PatientPruner(PrunerConfig):
    """Stops a trial whose own held-out loss has not become better for a while."""

    name: Literal["patient"] = "patient"
    patience: int | None = _least("rungs without a better loss", 0)
    min_delta: float | None = _least("by how much a loss has to be better", 0, unit="nats")


class SchedulePruner(PrunerConfig):
    """At equal shares of their schedules the best of the trials with the first seed go on, the others stop.

    Losses of different trials are comparable at equal shares: a cosine's last part gains the most.
    """

    name: Literal["schedule"] = "schedule"
    rungs: list[float] = key(
        "shares of a trial's steps at which it is compared", rule="must be rising shares between 0 and 1"
    )
    reduction_factor: int = key("one in this many trials at a rung goes on", ge=2, remedy="try 3")

    @field_validator("rungs")
    @classmethod
    def _check_rungs(cls, rungs: list[float]) -> list[float]:
        if not rungs or sorted(set(rungs)) != rungs or not 0 < rungs[0] <= rungs[-1] < 1:
            raise refuse("pruner.rungs", "must be rising shares between 0 and 1", rungs, "try [0.125,0.5]")
        return rungs


AnyPruner = Annotated[
    NoPruner | SchedulePruner | AshaPruner | HyperbandPruner | MedianPruner | WilcoxonPruner | PatientPruner,
    Field(discriminator="name"),
]
