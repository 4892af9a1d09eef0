"""Settings that no other beats in everything."""

import numpy as np

from sweeplab.statistics.intervals import Array


def pareto_front(costs_KM: Array) -> list[int]:
    """Places of the K points that no other matches in all M costs and beats in one; smaller costs are better.

    Equal points stand together. A NaN, a cost that is not known, keeps a point out, and out of the others' way.
    """
    known_K = ~np.isnan(costs_KM).any(axis=1)
    found = []
    for place in np.flatnonzero(known_K):
        no_worse_K = known_K & (costs_KM <= costs_KM[place]).all(axis=1)
        if not (costs_KM[no_worse_K] < costs_KM[place]).any():
            found.append(int(place))
    return found


def best_under(costs_K: Array, scores_K: Array) -> list[int]:
    """The staircase of scores over one cost: places in order of cost, each better than all that cost no more."""
    order = np.lexsort((-scores_K, costs_K))
    found: list[int] = []
    for place in order:
        if np.isnan(costs_K[place]) or np.isnan(scores_K[place]):
            continue
        if not found or scores_K[place] > scores_K[found[-1]]:
            found.append(int(place))
    return found
