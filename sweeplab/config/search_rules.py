"""Samplers, pruners and constraints that a study cannot have are refused here; what its space rules out, in search/."""

from typing import Any, Final

from sweeplab.config.claim_rules import spaces_axes
from sweeplab.config.sampler import FinalsSampler, HalvingPruner, SchedulePruner
from sweeplab.config.sizes import num_seconds
from sweeplab.config.study import StudyConfig, StudySection
from sweeplab.config.tasks import check_metric
from sweeplab.records.metrics import find_default_within
from sweeplab.records.stored import is_number
from sweeplab.runtime.errors import ConfigError, refuse

LISTING: Final = ("grid", "race", "brute_force")  # they end by themselves, with the last point of the space
RACES: Final = ("race", "finals")
LEARNING: Final = ("tpe", "gp", "finals", "cmaes", "nsga2")  # what they draw depends on results
_CONSTRAINED: Final = ("tpe", "gp", "finals", "nsga2", "race")


def check_sampler(config: StudyConfig) -> None:
    """Refuses a sampler without what it needs, or with what it cannot use. Raises `ConfigError`."""
    sampler, study = config.sampler, config.study
    if sampler.name not in (*LISTING, "finals") and study.num_trials is None:
        raise ConfigError(f"study.num_trials is missing; sampler={sampler.name} needs one, such as 30")
    if sampler.name == "cmaes" and len(study.objectives) > 1:
        raise refuse("study.objectives", "must be one metric for sampler=cmaes", study.objectives, "use sampler=nsga2")
    if sampler.name in LISTING and study.enqueue:
        rule = f"does not go with sampler={sampler.name}, which runs every point"
        raise refuse("study.enqueue", rule, study.enqueue, "use sampler=tpe")
    if sampler.name in RACES:
        _check_race(config)
    if isinstance(sampler, FinalsSampler):
        _check_finals(sampler, study)
    if study.budget is not None:
        num_seconds("study.budget", study.budget)
    begins_there = config.action == "recommend"  # its first rates are around the earlier study's best one
    if sampler.name not in ("tpe", "gp", "finals") and study.warm_start is not None and not begins_there:
        rule = f"does not go with sampler={sampler.name}, which learns nothing from another study's trials"
        raise refuse("study.warm_start", rule, study.warm_start, "use sampler=tpe or sampler=gp")


def check_recommended_sampler(config: StudyConfig) -> None:
    """Refuses another sampler than a race for action=recommend. Raises `ConfigError`."""
    if config.sampler.name != "race":
        rule = "must be race for action=recommend, which sends seeds where the contest is"
        raise refuse("sampler", rule, config.sampler.name, "leave it out, or use action=run")


def check_beginnings(config: StudyConfig) -> None:
    """Refuses `begin` of an axis where no race begins with it. Raises `ConfigError`."""
    varied = spaces_axes(config.space)
    begun = next((key for key, spec in varied.items() if spec.get("begin") is not None), None)
    if begun is None:
        return
    key, value = f"space.{begun}.begin", varied[begun]["begin"]
    if config.action == "recommend":
        check_recommended_sampler(config)
    if config.sampler.name != "race":
        rule = f"does not go with sampler={config.sampler.name}, which runs every choice"
        raise refuse(key, rule, value, "drop it, or use sampler=race")
    conditional = next((one for one, spec in varied.items() if "when" in spec), None)
    if conditional is not None:
        raise refuse(key, f"does not go with space.{conditional}.when", value, "drop one of them")


def _check_race(config: StudyConfig) -> None:
    """Refuses a race without settings, or towards something that has no default. Raises `ConfigError`."""
    study = config.study
    if not config.space:
        raise ConfigError(
            f"space is missing; sampler={config.sampler.name} needs settings to choose from, or use sampler=grid"
        )
    if len(study.objectives) > 1:
        rule = f"must be one metric for sampler={config.sampler.name}, which looks for the best by one number"
        raise refuse("study.objectives", rule, study.objectives, "use sampler=grid")
    if study.within is None and find_default_within(study.objectives[0]) is None:
        raise ConfigError(
            f"study.within is missing; say how much of {study.objectives[0]} may be lost by the setting that is named, "
            "such as study.within=0.5"
        )


def _check_finals(sampler: FinalsSampler, study: StudySection) -> None:
    """Refuses finals without finalists, or without seeds for them. Raises `ConfigError`."""
    if sampler.num_finalists > sampler.num_drawn:
        rule = f"must be at most sampler.num_drawn={sampler.num_drawn}"
        raise refuse("sampler.num_finalists", rule, sampler.num_finalists, "try 5")
    if len(study.seeds) < 3:
        rule = "must be three or more for sampler=finals: the first draws, the others race"
        raise refuse("study.seeds", rule, study.seeds, "leave it out")


def list_fresh_seeds(study: StudySection) -> list[int]:
    """The seeds with which the setting that a race names is trained once more."""
    return [max(study.seeds) + count for count in range(1, study.fresh_seeds + 1)]


def find_within(config: StudyConfig) -> float:
    """What may be lost at most by the setting that a race names, in the unit of its objective."""
    within = config.study.within or find_default_within(config.study.objectives[0])
    assert within is not None
    return within


def check_pruner(config: StudyConfig) -> None:
    """Refuses a pruner that would never see a held-out loss in time. Raises `ConfigError`."""
    pruner, training = config.pruner, config.training
    if pruner.name == "none":
        return
    remedy = "use pruner=none"
    if len(config.study.objectives) > 1:
        rule = f"must be one metric for pruner={pruner.name}, since Optuna compares trials by one number"
        raise refuse("study.objectives", rule, config.study.objectives, remedy)
    interval, steps = training.heldout_interval, training.max_steps
    if interval is None:
        raise refuse(
            "training.heldout_interval", f"is needed by pruner={pruner.name}", "null", "give steps, such as 50"
        )
    if isinstance(pruner, SchedulePruner):
        _check_shares(pruner, interval, steps)
    elif interval < 1:
        rule = f"must be a number of steps for pruner={pruner.name}"
        raise refuse("training.heldout_interval", rule, interval, "give steps, such as 50, or use pruner=schedule")
    if steps is not None and interval >= steps:
        rule = f"must be below training.max_steps={steps} for pruner={pruner.name}"
        raise refuse("training.heldout_interval", rule, interval, f"try {max(1, steps // 4)}, or {remedy}")
    if (
        isinstance(pruner, HalvingPruner)
        and steps is not None
        and pruner.min_resource is not None
        and pruner.min_resource >= steps
    ):
        rule = f"must be below training.max_steps={steps}, or nothing is pruned"
        raise refuse("pruner.min_resource", rule, pruner.min_resource, "leave it null")
    if pruner.name == "hyperband" and steps is None:
        raise refuse("training.max_steps", "is needed by pruner=hyperband", "null", "give it, or use pruner=asha")


def _check_shares(pruner: SchedulePruner, interval: float, steps: int | None) -> None:
    """Refuses held-out losses at other shares of the schedule than those that are compared. Raises `ConfigError`."""
    share = interval if interval < 1 else None if steps is None else interval / steps
    if share is None or share > pruner.rungs[0] + 1e-9:
        rule = f"must be at most pruner.rungs[0]={pruner.rungs[0]:g} of a trial's steps for pruner=schedule"
        raise refuse("training.heldout_interval", rule, interval, f"use {pruner.rungs[0]:g}, a share of the steps")


def check_constraints(config: StudyConfig) -> None:
    """Refuses constraints that name no metric, or go to a sampler that does not learn from them."""
    for metric, bound in constraint_bounds(config.study.constraints):
        check_metric("study.constraints", metric)
        for end, value in bound.items():
            if not is_number(value) or not abs(value) < float("inf"):
                raise refuse(f"study.constraints.{metric}.{end}", "must be a number", value, "try {max: 1e6}")
        if set(bound) - {"min", "max"}:
            raise refuse(f"study.constraints.{metric}", "must hold max, min or both", bound, "try {max: 1e6}")
    if config.study.constraints and config.sampler.name not in _CONSTRAINED:
        rule = f"does not go with sampler={config.sampler.name}, which does not learn from constraints"
        raise refuse("study.constraints", rule, config.study.constraints, f"use one of {', '.join(_CONSTRAINED)}")


def list_asked_metrics(config: StudyConfig) -> list[tuple[str, list[str]]]:
    """The metrics that every trial must measure, by the key that asks for them. Raises `ConfigError`."""
    constrained = [metric for metric, _ in constraint_bounds(config.study.constraints)]
    return [("study.objectives", config.study.objectives), ("study.constraints", constrained)]


def constraint_bounds(section: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Metrics with their bounds; conf may nest a metric's name or not. Raises `ConfigError` for what holds no bound."""
    found = []
    for name, value in section.items():
        if not isinstance(value, dict) or not value:
            key = f"study.constraints.{prefix}{name}"
            raise refuse(key, "must hold max, min or both", value, "try {num_trainable_params: {max: 1e6}}")
        if any(isinstance(inner, dict) for inner in value.values()):
            found += constraint_bounds(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found
