"""The settings that a claim names, as indices into the evidence and as weights of a contrast."""

from typing import Any

import numpy as np

from sweeplab.records.claim import ClaimConfig
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.comparability import by_meaning
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import value_text
from sweeplab.report.evidence.settings import Setting
from sweeplab.statistics.intervals import Array


def comparable(facts: StudyFacts, settings: list[Setting], claim: ClaimConfig) -> list[Setting]:
    """Those of the one of `by_meaning`'s families that holds every setting which the claim names; all where none does.

    Losses of other data have no part in the claim, and none in the variance it is judged by.
    """

    def is_named(setting: Setting) -> bool:
        return claim.axis() in setting.params or any(matches(setting, point) for point in claim.settings())

    families = by_meaning(facts, settings, claim.metric)
    holding = [members for members in families.values() if any(is_named(one) for one in members)]
    return holding[0] if len(holding) == 1 else settings


def matches(setting: Setting, point: dict[str, Any]) -> bool:
    return all(key in setting.params and setting.params[key] == value for key, value in point.items())


def named(found: Evidence, setting: dict[str, Any]) -> dict[str, int]:
    """Places of the settings that `setting` names, by what else they differ in."""
    return {
        repr(sorted((key, value_text(value)) for key, value in one.params.items() if key not in setting)): place
        for place, one in enumerate(found.settings)
        if matches(one, setting)
    }


def mean_weights(num_settings: int, places: list[int]) -> Array:
    weights_K = np.zeros(num_settings)
    weights_K[places] = 1 / len(places)
    return weights_K


def pair_weights(found: Evidence | None, first: dict[str, Any], second: dict[str, Any]) -> Array | None:
    """First minus second, of settings that are alike in everything else; None where there is no such pair."""
    if found is None:
        return None
    ours, theirs = named(found, first), named(found, second)
    shared = [rest for rest in ours if rest in theirs] if set(first) == set(second) else []
    places = ([ours[rest] for rest in shared], [theirs[rest] for rest in shared]) if shared else None
    if places is None and ours and theirs and set(first) != set(second):
        places = (list(ours.values()), list(theirs.values()))
    if places is None:
        return None
    return mean_weights(len(found.settings), places[0]) - mean_weights(len(found.settings), places[1])


def levels_of(found: Evidence, axis: str) -> list[list[int]]:
    """Places of settings by the axis's values in their order, as far as all values are alike in everything else."""
    values: list[Any] = []
    for one in found.settings:
        if axis in one.params and one.params[axis] not in values:  # a list is a value, but no key of a dictionary
            values.append(one.params[axis])
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    by_rest = [named(found, {axis: value}) for value in values]
    shared = set.intersection(*(set(places) for places in by_rest)) if by_rest else set()
    return [[places[rest] for rest in sorted(shared)] for places in by_rest] if shared else []
