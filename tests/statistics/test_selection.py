"""Some of many."""

import itertools

import numpy as np

from sweeplab.statistics.selection import find_best_under, find_pareto_front, pick_evenly


def test_even_choices_keep_both_ends() -> None:
    assert pick_evenly(range(10), 4) == [0, 3, 6, 9]
    assert pick_evenly(range(3), 4) == [0, 1, 2]
    assert pick_evenly(range(9), 1) == [0]


def test_the_front_is_what_brute_force_finds() -> None:
    costs = np.random.default_rng(0).integers(0, 5, (40, 3)).astype(float)
    costs[7, 1] = np.nan
    beaten = {
        i for i, j in itertools.permutations(range(40), 2) if all(costs[j] <= costs[i]) and any(costs[j] < costs[i])
    }
    assert find_pareto_front(costs) == [i for i in range(40) if i not in beaten and i != 7]


def test_best_under_a_budget_is_a_staircase() -> None:
    costs, scores = np.array([3.0, 1.0, 2.0, 2.0, np.nan]), np.array([0.9, 0.5, 0.4, 0.7, 1.0])
    assert find_best_under(costs, scores) == [1, 3, 0]
