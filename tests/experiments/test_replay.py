"""The replay's own methods, on curves and tables with known answers."""

import numpy as np
import pytest
from scipy import stats

from experiments.benchmarks.replay.methods import recommend
from experiments.benchmarks.replay.stopping import _predict_least, give_up_by_extrapolation

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SETTINGS = [(rate, float(rank), ratio) for rate in RATES for rank in (4, 16, 64) for ratio in (0.5, 2.0, 8.0)]


def test_the_least_end_is_that_of_a_line_s_prediction_interval() -> None:
    random = np.random.default_rng(0)
    whole_NR = random.normal(size=(9, 3)) + np.linspace(0, 4, 9)[:, None]
    before_N, end_N = whole_NR[:, 1], whole_NR[:, -1]
    line = stats.linregress(before_N, end_N)
    variance = ((end_N - line.intercept - line.slope * before_N) ** 2).sum() / 7
    away = (1.5 - before_N.mean()) ** 2 / ((before_N - before_N.mean()) ** 2).sum()
    least = line.intercept + 1.5 * line.slope - stats.t.ppf(0.9, 7) * np.sqrt(variance * (1 + 1 / 9 + away))
    assert _predict_least(whole_NR, 1.5, 1, 0.9) == pytest.approx(least, rel=1e-4)


def test_curves_that_never_cross_are_given_up_at_once() -> None:
    ends_K = np.linspace(1.0, 3.0, 20)
    losses_KSR = ends_K[:, None, None] * np.array([2.0, 1.5, 1.2, 1.0])
    choice = give_up_by_extrapolation(np.arange(20.0), 0.9, thaws=True)(losses_KSR, ends_K, np.random.default_rng(0))
    assert choice.setting == 0
    assert choice.num_runs == pytest.approx(6 + 14 / 4)  # six reach their end, each other one its first measurement


def test_a_recommendation_that_begins_at_the_wrong_end_comes_to_the_best_rate() -> None:
    means_K = np.array([1 + abs(np.log10(rate) + 2) + 0.3 * (ratio != 2.0) for rate, _, ratio in SETTINGS])
    noise = np.random.default_rng(1).normal(size=(len(SETTINGS), 10, 1))
    losses_KSR = np.exp(np.log(means_K)[:, None, None] + 0.01 * noise)
    lowest = [row for row, (rate, _, ratio) in enumerate(SETTINGS) if rate <= RATES[1] and ratio == 2.0]
    choice = recommend(SETTINGS, lowest, 0.1, 45)(losses_KSR, means_K, np.random.default_rng(0))
    assert SETTINGS[choice.setting][0] == 1e-2
    assert not choice.was_wrong
