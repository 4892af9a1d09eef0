"""Spreads: the arithmetic by hand, the likelihood of moderated variances by brute force, levels by simulation."""

import numpy as np
import pytest

from sweeplab.statistics.spreads import (
    TEST_LEVEL,
    _compute_excesses,
    _compute_paired_variances,
    estimate_spreads,
    find_resolution,
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
    freedoms = spreads.own_df_K[0]
    values[4] *= 200  # one may be an accident; two say that the others may be unlike, too
    two = estimate_spreads(values, NO_FLOOR[:16])
    assert np.flatnonzero(two.apart_K).tolist() == [3, 4]
    assert two.own_df_K[0] < freedoms - 2
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
