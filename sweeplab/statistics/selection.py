"""Selects from many: evenly spaced ones, the Pareto front, and the best within each budget."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from sweeplab.statistics.intervals import Array

_T = TypeVar("_T")


def pick_evenly(items: Sequence[_T], most: int) -> list[_T]:
    """At most `most` items at even distances; the first and the last are among them where `most` is at least 2."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[0]]
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def find_pareto_front(costs_KM: Array) -> list[int]:
    """Indices of the points on the Pareto front: no other point is at least as good in all M costs and better in one.

    Smaller costs are better. Of equal points all or none are on the front. A point with an unknown cost (NaN) is
    ignored.
    """
    known = np.flatnonzero(~np.isnan(costs_KM).any(axis=1))
    front: list[int] = []
    front_KM = np.empty_like(costs_KM)
    for index in known[np.lexsort(costs_KM[known].T[::-1])]:  # a point comes after all points that are better
        so_far_FM, costs_M = front_KM[: len(front)], costs_KM[index]
        no_worse_F = (so_far_FM <= costs_M).all(axis=1)
        if not (so_far_FM[no_worse_F] < costs_M).any():
            front_KM[len(front)] = costs_M
            front.append(int(index))
    return sorted(front)


def find_best_under(costs_K: Array, scores_K: Array) -> list[int]:
    """Indices in order of cost, each with a higher score than all that cost no more; NaN is ignored."""
    order = np.lexsort((-scores_K, costs_K))
    best: list[int] = []
    for index in order:
        if np.isnan(costs_K[index]) or np.isnan(scores_K[index]):
            continue
        if not best or scores_K[index] > scores_K[best[-1]]:
            best.append(int(index))
    return best
