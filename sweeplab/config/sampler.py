"""How a study searches, in Optuna's words."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class SamplerConfig:
    name: str = MISSING  # grid | random | qmc | tpe | gp | cmaes | nsga2 | brute_force
    seed: int = MISSING
    # Optuna's own arguments under its names; each belongs to some samplers only, and null is left to Optuna
    n_startup_trials: int | None = None  # tpe, gp, cmaes: drawn at random before the model begins
    n_ei_candidates: int | None = None  # tpe
    multivariate: bool | None = None  # tpe: axes are drawn together
    constant_liar: bool | None = None  # tpe: running trials are taken as bad, so that a cohort spreads out
    deterministic_objective: bool | None = None  # gp
    qmc_type: str | None = None  # qmc: sobol | halton
    scramble: bool | None = None  # qmc
    popsize: int | None = None  # cmaes: of a generation
    population_size: int | None = None  # nsga2: of a generation
    mutation_prob: float | None = None  # nsga2
    crossover_prob: float | None = None  # nsga2
    swapping_prob: float | None = None  # nsga2


@dataclass
class PrunerConfig:
    name: str = MISSING  # none | asha | hyperband | median | wilcoxon | patient
    # Optuna's own arguments under its names; resources and steps are optimizer steps
    min_resource: int | None = None  # asha, hyperband: the first rung; null: see conf/pruner
    reduction_factor: int | None = None  # asha, hyperband: one in so many goes on
    bootstrap_count: int | None = None  # asha, hyperband: trials of a rung before any goes on
    n_startup_trials: int | None = None  # median: finished trials before any is pruned
    n_warmup_steps: int | None = None  # median: none is pruned before
    p_threshold: float | None = None  # wilcoxon
    n_startup_steps: int | None = None  # wilcoxon: rungs before any trial is pruned
    patience: int | None = None  # patient: rungs without a better loss
    min_delta: float | None = None  # patient: nats by which a loss has to be better
