"""A space that has grown: which changes only add to it, and what was drawn before, stated in the new one."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from sweeplab.config.space import Axis, axis
from sweeplab.runtime.errors import ConfigError

Spec = dict[str, Any]


def same_kind(one: Axis, other: Axis) -> bool:
    """True where Optuna takes both for the same parameter."""
    if one.choices is not None or other.choices is not None:
        return one.choices is not None and other.choices is not None
    return one.whole() == other.whole() and one.log == other.log


def contains(outer: Axis, inner: Axis) -> bool:
    """True where every value of `inner` is one of `outer`, drawn under the same condition."""
    if not same_kind(outer, inner) or dict(outer.when) != dict(inner.when):
        return False
    if inner.choices is not None:
        return all(outer.holds(value) for value in inner.choices)
    if outer.step is None and not outer.whole():
        return outer.holds(inner.low) and outer.holds(inner.high)
    if inner.step is None and not inner.whole():
        return False
    whole_steps = Decimal(str(inner.step or 1)) % Decimal(str(outer.step or 1)) == 0
    return whole_steps and outer.holds(inner.low) and outer.holds(inner.value(inner.last_place()))


def narrowed(earlier: dict[str, Spec], now: dict[str, Spec]) -> list[str]:
    """Differences between two `StudyFacts.space` that do more than add values to an axis, each in words.

    More choices, wider ends and finer steps go on; an axis that is new, gone, of another kind or condition, or that
    has lost a value makes earlier trials another experiment's.
    """
    found = [f"space.{key} was not varied, now {now[key]}" for key in now if key not in earlier]
    for key, spec in earlier.items():
        if key not in now:
            found.append(f"space.{key} was {spec}, now not varied")
        elif not contains(axis(key, now[key]), axis(key, spec)):
            found.append(f"space.{key} was {spec}, now {now[key]}")
    return found


def fewer_seeds(earlier: list[int], now: list[int]) -> list[str]:
    """In words, where a seed is gone: its trials would stand in the report as if they were still asked for."""
    return [] if set(earlier) <= set(now) else [f"study.seeds was {earlier}, now {now}"]


def outdated(trials: list[FrozenTrial], distributions: dict[str, BaseDistribution]) -> bool:
    """True where a trial was drawn from an axis as it was before it grew."""
    return any(
        key in distributions and drawn != distributions[key]
        for trial in trials
        for key, drawn in trial.distributions.items()
    )


def restate(database: Path, study_name: str, distributions: dict[str, BaseDistribution]) -> None:
    """Replaces `database` by one in which every trial was drawn from `distributions`, in one step.

    Optuna takes no new choices within a study, and samplers drop an axis whose range differs between trials. Numbers,
    values, states and attributes stay; CMA-ES begins again, since its state is in the old range's units. Raises
    `ConfigError` for a trial that lies outside.
    """
    partial = database.with_name(f".{database.name}.restated")
    partial.unlink(missing_ok=True)
    old_storage, new_storage = RDBStorage(f"sqlite:///{database}"), RDBStorage(f"sqlite:///{partial}")
    old = optuna.load_study(study_name=study_name, storage=old_storage)
    new = optuna.create_study(study_name=study_name, storage=new_storage, directions=old.directions)
    for key, value in old.user_attrs.items():
        new.set_user_attr(key, value)
    for key, value in old_storage.get_study_system_attrs(old_storage.get_study_id_from_name(study_name)).items():
        new_storage.set_study_system_attr(new_storage.get_study_id_from_name(study_name), key, value)
    for trial in old.get_trials():
        outside = [key for key, value in trial.params.items() if not held(distributions[key], value)]
        if outside:
            key = outside[0]
            raise ConfigError(f"space.{key} has lost {trial.params[key]}, which was drawn; choose another study.name")
        trial.distributions = {key: distributions[key] for key in trial.params}
        trial.system_attrs = {key: value for key, value in trial.system_attrs.items() if not key.startswith("cma:")}
        new.add_trial(trial)
    for storage in (old_storage, new_storage):
        storage.remove_session()
        storage.engine.dispose()
    partial.replace(database)


def held(distribution: BaseDistribution, value: Any) -> bool:
    """True where `value` can be drawn from `distribution`."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False
