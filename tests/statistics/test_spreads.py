"""Settings that spread more than the others: the arithmetic by hand, the test's level and its reach by simulation."""

import numpy as np
import pytest

from sweeplab.statistics.spreads import (
    TEST_LEVEL,
    _compute_excesses,
    _compute_paired_variances,
    compute_own_variances,
    split_by_spread,
)


def test_an_excess_is_over_the_mean_of_all_smaller_ones() -> None:
    assert _compute_excesses(np.array([1.0, 100.0, 4.0, 5.0])) == pytest.approx([100 / (10 / 3), 5 / 2.5])
    assert _compute_excesses(np.array([[1.0, 2.0, 3.0]])) == pytest.approx(np.array([[3 / 1.5]]))


def test_variances_over_seeds_are_numpys() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.1, size=(2, 5, 3))
    assert compute_own_variances(values) == pytest.approx(values.var(axis=-1, ddof=1), rel=1e-12)


def test_what_a_seed_does_to_all_settings_is_no_spread_of_a_pair() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3))
    moved = values + np.array([10.0, -20.0, 30.0])
    assert _compute_paired_variances(moved) == pytest.approx(_compute_paired_variances(values))


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("num_settings", "num_seeds"), [(4, 2), (7, 3), (16, 2)])
def test_settings_that_spread_alike_are_taken_for_others_in_2_of_100_studies(
    num_settings: int, num_seeds: int, paired: bool
) -> None:
    random = np.random.default_rng(1)
    studies = random.normal(size=(1500, num_settings, num_seeds)) + random.normal(size=(1500, 1, num_seeds)) * paired
    taken = np.mean([split_by_spread(values_KS, paired).wide_K.any() for values_KS in studies])
    assert abs(taken - TEST_LEVEL) < 4 * (TEST_LEVEL * (1 - TEST_LEVEL) / 1500) ** 0.5  # and the limits' own error


@pytest.mark.parametrize("paired", [False, True])
def test_two_that_diverge_do_not_hide_each_other(paired: bool) -> None:
    values = np.array([[1.0, 1.01], [1.2, 1.21], [0.9, 0.92], [1.1, 1.1], [2.0, 9.0], [30.0, 4.0]])
    assert split_by_spread(values, paired).wide_K.tolist() == [False] * 4 + [True] * 2
    assert split_by_spread(values, paired).inflation > 1


def test_without_any_spread_a_setting_is_no_measure_for_the_others() -> None:
    values = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.50, 0.52], [0.40, 0.43], [0.31, 0.30]])
    assert not split_by_spread(values, paired=False).wide_K.any()
    assert not split_by_spread(values[:3], paired=False).wide_K.any()


def test_six_seeds_and_a_lone_setting_have_their_own_variance_anyway() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6)) * [[1.0], [1.0], [1.0], [1000.0]]
    assert not split_by_spread(values, paired=True).wide_K.any()
    assert not split_by_spread(values[3:, :2], paired=False).wide_K.any()
