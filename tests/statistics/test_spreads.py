"""Spreads: the arithmetic by hand, the likelihood of moderated variances by brute force, levels by simulation."""

import numpy as np
import pytest
from scipy import optimize, stats

from sweeplab.statistics.spreads import (
    TEST_LEVEL,
    _compute_excesses,
    _compute_paired_variances,
    estimate_spreads,
    find_resolution,
    moderate_variances,
)

NO_FLOOR = np.zeros(64)


def test_an_excess_is_over_the_mean_of_all_smaller_ones() -> None:
    assert _compute_excesses(np.array([1.0, 100.0, 4.0, 5.0])) == pytest.approx([100 / (10 / 3), 5 / 2.5])
    assert _compute_excesses(np.array([[1.0, 2.0, 3.0]])) == pytest.approx(np.array([[3 / 1.5]]))


def test_what_a_seed_does_to_all_settings_is_no_spread_of_a_pair() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3))
    moved = values + np.array([10.0, -20.0, 30.0])
    assert _compute_paired_variances(moved) == pytest.approx(_compute_paired_variances(values))
    plain, shifted = estimate_spreads(values, NO_FLOOR[:5]), estimate_spreads(moved, NO_FLOOR[:5])
    assert shifted.pooled == pytest.approx(plain.pooled)
    assert shifted.common > 100 * plain.pooled


def test_moderated_variances_maximize_the_likelihood() -> None:
    random = np.random.default_rng(0)
    df = np.full(30, 2.0)
    variances = random.chisquare(2, size=30) / 2 * np.exp(random.normal(size=30))
    moderated, prior = moderate_variances(variances, df)

    def loss(log_scale: float, freedoms: float) -> float:
        return -float(stats.f.logpdf(variances / np.exp(log_scale), df, freedoms).sum() - 30 * log_scale)

    grid = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    fits = {one: optimize.minimize_scalar(loss, bounds=(-5, 5), args=(one,), method="bounded") for one in grid}
    best = min(fits, key=lambda one: fits[one].fun)
    assert prior == best
    scale = float(np.exp(fits[best].x))
    assert moderated == pytest.approx((prior * scale + df * variances) / (prior + df), rel=1e-3)


def test_alike_spreads_are_drawn_together_and_unlike_ones_are_not() -> None:
    random = np.random.default_rng(0)
    alike = random.chisquare(4, size=40) / 4
    unlike = alike * np.exp(2 * random.normal(size=40))
    df = np.full(40, 4.0)
    assert moderate_variances(alike, df)[1] == 4 > 2 * moderate_variances(unlike, df)[1]


@pytest.mark.parametrize(("num_settings", "num_seeds"), [(4, 2), (7, 3), (16, 2)])
def test_settings_that_spread_alike_are_hardly_ever_set_apart(num_settings: int, num_seeds: int) -> None:
    random = np.random.default_rng(1)
    studies = random.normal(size=(800, num_settings, num_seeds)) + random.normal(size=(800, 1, num_seeds))
    apart = np.mean([estimate_spreads(one, NO_FLOOR[:num_settings]).apart_K.any() for one in studies])
    assert apart < TEST_LEVEL + 4 * (TEST_LEVEL * (1 - TEST_LEVEL) / 800) ** 0.5


def test_one_that_diverges_is_set_apart_and_many_are_not() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(16, 3))
    values[3] *= 200
    spreads = estimate_spreads(values, NO_FLOOR[:16])
    assert np.flatnonzero(spreads.apart_K).tolist() == [3]
    assert spreads.pooled < 3
    assert spreads.own_K[3] == pytest.approx(values[3].var(ddof=1))
    values[:8] *= 200
    assert not estimate_spreads(values, NO_FLOOR[:16]).apart_K.any()


def test_settings_without_any_spread_get_the_variance_of_the_others() -> None:
    values = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.50, 0.52], [0.40, 0.43], [0.31, 0.30]])
    spreads = estimate_spreads(values, NO_FLOOR[:6])
    assert spreads.flat_K.tolist() == [True] * 3 + [False] * 3
    assert (spreads.shares_K & ~spreads.flat_K).sum() == 3
    assert (spreads.own_K[:3] == spreads.pooled).all()
    assert estimate_spreads(values[:3], NO_FLOOR[:3]).pooled_df == 0


def test_a_share_does_not_spread_less_than_its_items_allow() -> None:
    values = np.array([[1.0, 1.0], [0.98, 0.99], [0.5, 0.5]])
    floors = find_resolution(values, 100)
    share = 202 / 204
    assert floors[0] == pytest.approx(share * (1 - share) / 100)
    assert floors[2] == pytest.approx(4 / 100**2)  # two items
    spreads = estimate_spreads(values, floors)
    assert not spreads.flat_K.any()
    assert spreads.pooled >= floors.min()
