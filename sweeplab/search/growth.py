"""Changes of a study's space and seeds: which ones only add to it, so that the study may go on."""

from decimal import Decimal
from typing import Any

from sweeplab.config.space import Axis, axis
from sweeplab.runtime.errors import write_value

_Spec = dict[str, Any]


def _is_same_kind(one: Axis, other: Axis) -> bool:
    """True where both are choices, or both are ranges of the same type and scale, as Optuna requires."""
    if one.choices is not None or other.choices is not None:
        return one.choices is not None and other.choices is not None
    return one.whole() == other.whole() and one.log == other.log


def _has_all_values(outer: Axis, inner: Axis) -> bool:
    """True where every value of `inner` is one of `outer`, drawn under the same condition."""
    if not _is_same_kind(outer, inner) or dict(outer.when) != dict(inner.when):
        return False
    if inner.choices is not None:
        return all(outer.holds(value) for value in inner.choices)
    if outer.step is None and not outer.whole():
        return outer.holds(inner.low) and outer.holds(inner.high)
    if inner.step is None and not inner.whole():
        return False
    whole_steps = Decimal(str(inner.step or 1)) % Decimal(str(outer.step or 1)) == 0
    return whole_steps and outer.holds(inner.low) and outer.holds(inner.value(inner.last_place()))


def list_lost_values(earlier: dict[str, _Spec], now: dict[str, _Spec]) -> list[str]:
    """Differences between two `StudyFacts.space` that do more than add values to an axis, each as a sentence.

    More choices, a wider range and a finer step are allowed. An axis that is new, was removed, has another type or
    condition, or has lost a value is not: earlier trials would belong to another experiment.
    """
    changes = [
        f"space.{key} was not varied and is now {axis(key, now[key]).describe()}" for key in now if key not in earlier
    ]
    for key, spec in earlier.items():
        before = axis(key, spec)
        if key not in now:
            changes.append(f"space.{key} was {before.describe()} and is now not varied")
        elif not _has_all_values(axis(key, now[key]), before):
            changes.append(f"space.{key} was {before.describe()} and is now {axis(key, now[key]).describe()}")
    return changes


def list_lost_seeds(earlier: list[int], now: list[int]) -> list[str]:
    """A sentence where a seed was removed: the report would still show its trials as part of the study."""
    return [] if set(earlier) <= set(now) else [f"study.seeds was {write_value(earlier)}, now {write_value(now)}"]
