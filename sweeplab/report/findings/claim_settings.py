"""The settings that a claim names, as indices into the evidence and as weights of a contrast."""

from typing import Any

import numpy as np

from sweeplab.records.claim import ClaimConfig
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import format_value
from sweeplab.report.evidence.settings import Setting
from sweeplab.statistics.intervals import Array


def select_comparable(facts: StudyFacts, settings: list[Setting], claim: ClaimConfig) -> list[Setting]:
    """Those of the one of `by_meaning`'s families that holds every setting which the claim names; all where none does.

    Losses of other data have no part in the claim, and none in the variance it is judged by.
    """

    def is_named(setting: Setting) -> bool:
        return claim.axis() in setting.params or any(_is_match(setting, point) for point in claim.settings())

    families = group_comparable(facts, settings, claim.metric)
    holding = [members for members in families.values() if any(is_named(one) for one in members)]
    return holding[0] if len(holding) == 1 else settings


def _is_match(setting: Setting, point: dict[str, Any]) -> bool:
    return all(key in setting.params and setting.params[key] == value for key, value in point.items())


def find_named(evidence: Evidence, setting: dict[str, Any]) -> dict[str, int]:
    """Places of the settings that `setting` names, by what else they differ in."""
    return {
        repr(sorted((key, format_value(value)) for key, value in one.params.items() if key not in setting)): index
        for index, one in enumerate(evidence.settings)
        if _is_match(one, setting)
    }


def weigh_mean(num_settings: int, indices: list[int]) -> Array:
    weights_K = np.zeros(num_settings)
    weights_K[indices] = 1 / len(indices)
    return weights_K


def weigh_pair(evidence: Evidence | None, first: dict[str, Any], second: dict[str, Any]) -> Array | None:
    """First minus second, of settings that are alike in everything else; None where there is no such pair."""
    if evidence is None:
        return None
    ours, theirs = find_named(evidence, first), find_named(evidence, second)
    shared = [rest for rest in ours if rest in theirs] if set(first) == set(second) else []
    indices = ([ours[rest] for rest in shared], [theirs[rest] for rest in shared]) if shared else None
    if indices is None and ours and theirs and set(first) != set(second):
        indices = (list(ours.values()), list(theirs.values()))
    if indices is None:
        return None
    return weigh_mean(len(evidence.settings), indices[0]) - weigh_mean(len(evidence.settings), indices[1])


def find_levels(evidence: Evidence, axis: str) -> list[list[int]]:
    """Places of settings by the axis's values in their order, as far as all values are alike in everything else."""
    values: list[Any] = []
    for one in evidence.settings:
        if axis in one.params and one.params[axis] not in values:  # a list is a value, but no key of a dictionary
            values.append(one.params[axis])
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    by_rest = [find_named(evidence, {axis: value}) for value in values]
    shared = set.intersection(*(set(indices) for indices in by_rest)) if by_rest else set()
    return [[indices[rest] for rest in sorted(shared)] for indices in by_rest] if shared else []
