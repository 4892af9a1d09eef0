"""Some of many: evenly spaced ones, those that no other beats, and the best within a budget."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from sweeplab.statistics.intervals import Array

T = TypeVar("T")


def pick_evenly(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of `items`, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[0]]
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def find_pareto_front(costs_KM: Array) -> list[int]:
    """Places of the K points that no other matches in all M costs and beats in one; smaller costs are better.

    Equal points stand together. A NaN, a cost that is not known, keeps a point out, and out of the others' way.
    """
    known = np.flatnonzero(~np.isnan(costs_KM).any(axis=1))
    found: list[int] = []
    front_KM = np.empty_like(costs_KM)
    for index in known[np.lexsort(costs_KM[known].T[::-1])]:  # what beats a point comes before it
        so_far_FM, costs_M = front_KM[: len(found)], costs_KM[index]
        no_worse_F = (so_far_FM <= costs_M).all(axis=1)
        if not (so_far_FM[no_worse_F] < costs_M).any():
            front_KM[len(found)] = costs_M
            found.append(int(index))
    return sorted(found)


def find_best_under(costs_K: Array, scores_K: Array) -> list[int]:
    """The staircase of scores over one cost: places in order of cost, each better than all that cost no more."""
    order = np.lexsort((-scores_K, costs_K))
    found: list[int] = []
    for index in order:
        if np.isnan(costs_K[index]) or np.isnan(scores_K[index]):
            continue
        if not found or scores_K[index] > scores_K[found[-1]]:
            found.append(int(index))
    return found
