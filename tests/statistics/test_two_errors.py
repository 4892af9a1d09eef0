"""Critical values of sums of two errors: where they are known exactly, by the printed table, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from sweeplab.statistics.intervals import Array
from sweeplab.statistics.two_errors import find_sum_factors

ANGLES = np.linspace(0, np.pi / 2, 17)


def find_at(angles: Array, df: float, other_df: float, level: float) -> Array:
    variances = np.stack([np.cos(angles) ** 2, np.sin(angles) ** 2], axis=1)
    return find_sum_factors(variances, np.tile([df, other_df], (len(angles), 1)), level)


@pytest.mark.parametrize("tail", [0.025, 1e-3, 1e-6])
def test_a_sum_of_cauchy_variables_is_one(tail: float) -> None:
    exact = (np.cos(ANGLES) + np.sin(ANGLES)) * stats.cauchy.isf(tail)
    assert find_at(ANGLES, 1.0, 1.0, 1 - 2 * tail) == pytest.approx(exact, rel=3e-4)


def test_with_many_freedoms_it_is_normal() -> None:
    assert find_at(ANGLES, 1e5, 1e5, 0.999) == pytest.approx(stats.norm.isf(0.0005), rel=3e-4)


def test_it_is_the_printed_table() -> None:
    """Fisher and Yates 1963, Statistical Tables, table VI: 6 and 6 degrees of freedom, 5 %, by 15 degrees."""
    angles = np.radians([0.0, 15.0, 30.0, 45.0])
    assert find_at(angles, 6.0, 6.0, 0.95) == pytest.approx([2.447, 2.440, 2.435, 2.435], abs=0.002)


def test_so_many_sums_are_beyond() -> None:
    random = np.random.default_rng(0)
    one, other = random.standard_t(1.7, size=400_000), random.standard_t(5.0, size=400_000)
    for angle in (0.3, 0.8, 1.3):
        (factor,) = find_at(np.array([angle]), 1.7, 5.0, 0.99)
        beyond = np.mean(np.abs(np.cos(angle) * one + np.sin(angle) * other) > factor)
        assert beyond == pytest.approx(0.01, abs=4 * (0.01 * 0.99 / 400_000) ** 0.5)


def test_one_error_alone_is_students() -> None:
    factors = find_sum_factors(np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]), np.full((3, 2), [3.0, 9.0]), 0.95)
    assert factors == pytest.approx([stats.t.isf(0.025, 3), stats.t.isf(0.025, 9), 0.0])
