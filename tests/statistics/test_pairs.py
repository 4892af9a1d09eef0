"""Differences of all pairs at once, beside a hand loop over each pair."""

import itertools

import numpy as np
import pytest
from scipy import stats

from sweeplab.statistics.comparison import compare_with_best
from sweeplab.statistics.intervals import level_with
from sweeplab.statistics.pairs import compare_pairs, find_better_pairs
from sweeplab.statistics.results import ResultTable, compute_item_variance


def test_a_pair_is_its_mean_difference_within_the_studentized_range() -> None:
    """Spreads as alike as can be, so that the pooled variance of the analysis of variance decides."""
    effects_K, noise_KS = np.array([0.0, 1.0, 5.0]), np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [-1.0, 0.0, 1.0]])
    table = ResultTable(effects_K[:, None] + 0.1 * noise_KS + np.array([3.0, 4.0, 8.0]))
    every = compare_pairs(table, np.arange(3))
    assert every.value_KB == pytest.approx(effects_K[:, None] - effects_K[None])
    variance = 0.01 * 6 / 4  # residuals' squares over (K - 1) (S - 1)
    range_of_three = stats.studentized_range.ppf(level_with(3), 3, 4) / 2**0.5
    least = range_of_three * np.sqrt(2 * variance / 3)
    for i, j in itertools.permutations(range(3), 2):
        assert every.reach_KB[i, j] >= least * (1 - 1e-9)  # the moderated variance may be wider
        assert every.seed_variance_KB[i, j] >= 2 * variance / 3 * (1 - 1e-9)
    better = find_better_pairs(table, 1)
    assert better.tolist() == [
        [bool(d > every.reach_KB[i, j]) for j, d in enumerate(row)] for i, row in enumerate(every.value_KB)
    ]
    assert better[2].tolist() == [True, True, False]
    assert find_better_pairs(table, -1).tolist() == better.T.tolist()


@pytest.mark.parametrize("gaps", [[], [(1, 0)], [(1, 0), (2, 2)]])
@pytest.mark.parametrize("num_seeds", [2, 3])
def test_items_count_by_the_seeds_that_both_have(num_seeds: int, gaps: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(num_seeds)
    items_KSN = (random.random((4, num_seeds, 30)) < random.random((4, 1, 30))).astype(float)
    for setting, seed in gaps:
        items_KSN[setting, seed % num_seeds] = np.nan
    table = ResultTable(items_KSN.mean(axis=2), items_KSN)
    every = compare_pairs(table, np.arange(4))
    for i, j in itertools.permutations(range(4), 2):
        common = ~np.isnan(items_KSN[[i, j]]).any(axis=(0, 2))
        by_hand = compute_item_variance(items_KSN[i, common] - items_KSN[j, common])
        assert every.item_variance_KB[i, j] == pytest.approx(by_hand, abs=1e-15)
        assert every.num_seeds_KB[i, j] == common.sum()
        means = items_KSN[[i, j]][:, common].mean(axis=(1, 2))
        assert every.value_KB[i, j] == pytest.approx(means[0] - means[1])


def test_who_is_surely_worse_than_the_best_is_so_among_all_pairs() -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        losses_KS = np.exp(random.normal(0, 0.2, (12, 1)) + random.normal(0, 0.05, (12, 3)))
        losses_KS[3, 1] = np.nan
        table = ResultTable(losses_KS, is_log=True)
        compared = compare_with_best(table, -1)
        assert compared is not None
        worse = [index for index in range(12) if index not in compared.tied]
        assert np.flatnonzero(find_better_pairs(table, -1)[compared.best]).tolist() == worse


def test_with_one_seed_nobody_is_surely_better() -> None:
    items_KSN = np.array([np.zeros((1, 50)), np.ones((1, 50))])
    assert not find_better_pairs(ResultTable(items_KSN.mean(axis=2), items_KSN), 1).any()
