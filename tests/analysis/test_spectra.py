"""Spectra against NumPy's SVD of the whole product, and dimensions of spectra that are known."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeplab.analysis.adapters import Factors
from sweeplab.analysis.spectra import count_dimensions, decompose_update, find_spectrum


@pytest.mark.parametrize(("rows", "columns", "rank"), [(12, 7, 3), (5, 20, 5), (4, 3, 6)])
def test_an_update_is_decomposed_without_being_made(
    rng: np.random.Generator, rows: int, columns: int, rank: int
) -> None:
    factors = Factors(rng.standard_normal((rank, columns)), rng.standard_normal((rows, rank)), 1.7)
    update_OI = 1.7 * factors.b_OR @ factors.a_RI
    found = decompose_update(factors)
    expected = np.linalg.svd(update_OI, compute_uv=False)
    np.testing.assert_allclose(found.sizes_K, expected[: min(rows, columns, rank)], rtol=1e-10)
    np.testing.assert_allclose(found.left_OK * found.sizes_K @ found.right_IK.T, update_OI, atol=1e-12)
    np.testing.assert_allclose(found.left_OK.T @ found.left_OK, np.eye(len(found.sizes_K)), atol=1e-12)
    np.testing.assert_allclose(found.right_IK.T @ found.right_IK, np.eye(len(found.sizes_K)), atol=1e-12)
    assert found.norm == pytest.approx(float(np.linalg.norm(update_OI)), rel=1e-12)
    np.testing.assert_allclose(find_spectrum(update_OI), found.sizes_K, rtol=1e-9)


def test_a_negative_scaling_has_the_same_sizes(rng: np.random.Generator) -> None:
    a_RI, b_OR = rng.standard_normal((2, 5)), rng.standard_normal((6, 2))
    one, other = (decompose_update(Factors(a_RI, b_OR, sign)) for sign in (2.0, -2.0))
    np.testing.assert_allclose(one.sizes_K, other.sizes_K, rtol=1e-12)


def test_an_update_of_zeros_has_no_direction(rng: np.random.Generator) -> None:
    """B is zero before training."""
    found = decompose_update(Factors(rng.standard_normal((3, 8)), np.zeros((6, 3)), 2.0))
    assert found.sizes_K.shape == (0,)
    assert found.norm == 0
    assert count_dimensions(found.sizes_K) is None


@pytest.mark.parametrize("count", [1, 4, 9])
def test_equal_singular_values_count_as_many_dimensions(count: int) -> None:
    assert count_dimensions(np.full(count, 3.0)) == pytest.approx((count, count, count), rel=1e-12)


def test_dimensions_of_a_spectrum_by_hand() -> None:
    """s = 2, 1, 1: stable rank 6/4; participation 36/18; entropy of 1/2, 1/4, 1/4 is 1.5 ln 2."""
    assert count_dimensions(np.array([2.0, 1.0, 1.0])) == pytest.approx((2**1.5, 1.5, 2.0), rel=1e-12)


def test_the_entropy_is_scipys(rng: np.random.Generator) -> None:
    sizes = np.sort(rng.exponential(size=30))[::-1]
    found = count_dimensions(sizes)
    assert found is not None
    assert found.effective_rank == pytest.approx(float(np.exp(scipy.stats.entropy(sizes))), rel=1e-12)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
@settings(max_examples=60)
def test_bounds_hold_for_every_spectrum(values: list[float]) -> None:
    """1 <= stable rank <= participation ratio <= effective rank <= count, whatever the unit."""
    sizes = np.sort(np.array(values))[::-1]
    found = count_dimensions(sizes)
    assert found is not None
    room = 1 + 1e-9
    assert found.stable_rank * room >= 1
    assert found.stable_rank <= found.participation_ratio * room
    assert found.participation_ratio <= found.effective_rank * room
    assert found.effective_rank <= len(values) * room
    assert count_dimensions(sizes * 1e-3) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(120, 120), (60, 240)])
def test_what_a_gaussian_matrix_has(rng: np.random.Generator, rows: int, columns: int) -> None:
    """Participation ratio n / (1 + n / m), as the page says: Marchenko and Pastur 1967."""
    found = count_dimensions(find_spectrum(rng.standard_normal((rows, columns))))
    assert found is not None
    assert found.participation_ratio == pytest.approx(rows / (1 + rows / columns), rel=0.03)
