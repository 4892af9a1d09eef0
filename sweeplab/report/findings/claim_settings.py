"""Finds the settings that a claim names: as indices into the evidence, and as the weights of a contrast."""

from typing import Any

import numpy as np

from sweeplab.records.claim import ClaimConfig
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import describe_params, format_value
from sweeplab.report.evidence.settings import Setting
from sweeplab.statistics.intervals import Array


def select_comparable(facts: StudyFacts, settings: list[Setting], claim: ClaimConfig) -> list[Setting]:
    """The group of `group_comparable` that contains all settings which the claim names; all settings if there is none.

    Losses on other data belong neither to the claim nor to the variance that it is judged with.
    """

    def is_named(setting: Setting) -> bool:
        return claim.axis() in setting.params or any(_is_match(setting, point) for point in claim.settings())

    groups = group_comparable(facts, settings, claim.metric)
    named_groups = [members for members in groups.values() if any(is_named(one) for one in members)]
    return named_groups[0] if len(named_groups) == 1 else settings


def _is_match(setting: Setting, point: dict[str, Any]) -> bool:
    return all(key in setting.params and setting.params[key] == value for key, value in point.items())


def find_named(evidence: Evidence, setting: dict[str, Any]) -> dict[str, int]:
    """Indices of the settings that have the values of `setting`, by their other values."""
    return {
        repr(sorted((key, format_value(value)) for key, value in one.params.items() if key not in setting)): index
        for index, one in enumerate(evidence.settings)
        if _is_match(one, setting)
    }


def weigh_mean(num_settings: int, indices: list[int]) -> Array:
    """The weights whose contrast is the mean of the settings at `indices`."""
    weights_K = np.zeros(num_settings)
    weights_K[indices] = 1 / len(indices)
    return weights_K


def weigh_pair(evidence: Evidence | None, first: dict[str, Any], second: dict[str, Any]) -> Array | None:
    """Weights for first minus second, over settings that have all other values in common; None where there is none."""
    if evidence is None:
        return None
    ours, theirs = find_named(evidence, first), find_named(evidence, second)
    shared = [other for other in ours if other in theirs] if set(first) == set(second) else []
    indices = ([ours[other] for other in shared], [theirs[other] for other in shared]) if shared else None
    if indices is None and ours and theirs and set(first) != set(second):
        indices = (list(ours.values()), list(theirs.values()))
    if indices is None:
        return None
    return weigh_mean(len(evidence.settings), indices[0]) - weigh_mean(len(evidence.settings), indices[1])


def find_levels(evidence: Evidence, axis: str) -> list[list[int]]:
    """Indices of settings for each value of the axis, in order; only settings whose other values occur with all of
    them."""
    values: list[Any] = []
    for one in evidence.settings:
        if axis in one.params and one.params[axis] not in values:  # not a dictionary, since a value may be a list
            values.append(one.params[axis])
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    by_other_values = [find_named(evidence, {axis: value}) for value in values]
    shared = set.intersection(*(set(indices) for indices in by_other_values)) if by_other_values else set()
    return [[indices[other] for other in sorted(shared)] for indices in by_other_values] if shared else []


def list_unmeasured(facts: StudyFacts, settings: list[Setting], evidence: Evidence | None, claim: ClaimConfig) -> str:
    """Why the settings that a claim names are not all measured with every seed; empty where they are.

    A claim over a whole axis, or over every setting, also needs the settings that the study planned and has not run.
    """
    axis = claim.axis()
    named = [one for one in settings if axis in one.params or any(_is_match(one, point) for point in claim.settings())]
    for point in claim.settings():
        if not any(_is_match(one, point) for one in settings):
            return f"{describe_params(point)} has not run"
    for setting in named:
        index = None if evidence is None else evidence.index_of(setting)
        if index is None:
            return f"{setting.label} has no value ({setting.counts} finished{setting.left_out})"
        if evidence is not None and evidence.lacking[index]:
            return f"{setting.label} has no run of seed {', '.join(map(str, evidence.lacking[index]))}"
    if axis is not None:
        tried = {format_value(one.params[axis]) for one in named}
        absent = [one for one in facts.space.get(axis, {}).get("choices") or [] if format_value(one) not in tried]
        if absent:
            return f"{axis}={format_value(absent[0])} has not run"
    num_records = sum(len(setting.records) for setting in settings)
    if (axis is not None or claim.every is not None) and num_records < (facts.num_planned or 0) and len(facts.space):
        return f"{num_records} of {facts.num_planned} planned trials have ended"
    return ""
