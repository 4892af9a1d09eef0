"""phi against SciPy's principal angles, constructed spans, and simulated chance."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from sweeplab.analysis.adapters import Array
from sweeplab.analysis.subspaces import (
    expect_by_chance,
    expect_grid_by_chance,
    find_directions,
    find_projector_moments,
    measure_similarity,
)


def random_basis(rng: np.random.Generator, dimension: int, rank: int) -> Array:
    return np.linalg.qr(rng.standard_normal((dimension, rank)))[0]


def test_every_entry_is_the_mean_squared_cosine_of_principal_angles(rng: np.random.Generator) -> None:
    one, other = find_directions(rng.standard_normal((4, 11))), find_directions(rng.standard_normal((6, 11)))
    phi = measure_similarity(one, other)
    assert phi.shape == (4, 6)
    for i in range(1, 5):
        for j in range(1, 7):
            angles = scipy.linalg.subspace_angles(one[:, :i], other[:, :j])
            assert phi[i - 1, j - 1] == pytest.approx(float((np.cos(angles) ** 2).mean()), abs=1e-12)


def test_directions_are_right_singular_vectors_up_to_sign(rng: np.random.Generator) -> None:
    a_RI = rng.standard_normal((3, 8))
    values, vectors = np.linalg.eigh(a_RI.T @ a_RI)
    strongest = vectors[:, np.argsort(values)[::-1][:3]]
    np.testing.assert_allclose(np.abs(find_directions(a_RI).T @ strongest), np.eye(3), atol=1e-12)


def test_equal_spans_have_one_and_orthogonal_ones_zero(rng: np.random.Generator) -> None:
    """Mixing rows by any invertible matrix keeps the span, though not the order of directions."""
    a_RI = rng.standard_normal((5, 20))
    mixed = rng.standard_normal((5, 5)) @ a_RI
    assert measure_similarity(find_directions(a_RI), find_directions(mixed))[-1, -1] == pytest.approx(1.0, abs=1e-12)
    assert np.diag(measure_similarity(find_directions(a_RI), find_directions(a_RI))) == pytest.approx(
        np.ones(5), abs=1e-12
    )
    beside = scipy.linalg.null_space(a_RI).T[:4]
    np.testing.assert_allclose(measure_similarity(find_directions(a_RI), find_directions(beside)), 0.0, atol=1e-24)


def test_a_span_within_a_larger_one_has_one(rng: np.random.Generator) -> None:
    large = rng.standard_normal((7, 30))
    within = rng.standard_normal((2, 7)) @ large
    assert measure_similarity(find_directions(within), find_directions(large))[-1, -1] == pytest.approx(1.0, abs=1e-12)


def test_b_is_compared_by_its_left_vectors(rng: np.random.Generator) -> None:
    """B and B M have equal column spans for any invertible M."""
    b_OR = rng.standard_normal((9, 3))
    other = b_OR @ rng.standard_normal((3, 3))
    assert measure_similarity(find_directions(b_OR.T), find_directions(other.T))[-1, -1] == pytest.approx(
        1.0, abs=1e-12
    )


def test_what_is_not_there_is_not_compared(rng: np.random.Generator) -> None:
    """Two equal rows span one dimension, and zeros none."""
    row = rng.standard_normal((1, 6))
    assert find_directions(np.vstack([row, row])).shape == (6, 1)
    assert find_directions(np.zeros((3, 6))).shape == (6, 0)
    assert measure_similarity(find_directions(np.zeros((3, 6))), find_directions(row)).shape == (0, 1)


def square_distance(one: Array, other: Array) -> float:
    """d^2 of the projection metric of appendix G, the sum of squared sines. Hamm and Lee 2008."""
    return float(np.square(np.sin(scipy.linalg.subspace_angles(one, other))).sum())


def test_the_appendix_and_its_own_definitions(rng: np.random.Generator) -> None:
    """1 - d^2 / p is phi; (1 / p)(1 - d^2), as printed, is another number unless p is 1."""
    one, other = random_basis(rng, 12, 3), random_basis(rng, 12, 5)
    phi, squared = measure_similarity(one, other), square_distance(one, other)
    assert 1 - squared / 3 == pytest.approx(phi[-1, -1], abs=1e-12)
    assert abs((1 - squared) / 3 - phi[-1, -1]) > 0.1
    assert 1 - square_distance(one[:, :1], other) == pytest.approx(phi[0, -1], abs=1e-12)
    assert (1 - square_distance(one, one)) / 3 == pytest.approx(1 / 3, abs=1e-12)  # equal spans, as printed


@pytest.mark.parametrize(("i", "j", "dimension"), [(1, 1, 10), (2, 5, 12), (4, 4, 9), (3, 8, 8), (1, 20, 64)])
def test_chance_has_the_stated_mean_and_spread(rng: np.random.Generator, i: int, j: int, dimension: int) -> None:
    """Gaussian matrices, the paper's control, against both closed forms: mean within 4 standard errors, spread 5 %."""
    num = 6000
    one, other = (np.linalg.qr(rng.standard_normal((num, dimension, rank)))[0].transpose(0, 2, 1) for rank in (i, j))
    phi = np.square(one @ other.transpose(0, 2, 1)).sum((1, 2)) / min(i, j)
    stated = expect_by_chance(i, j, dimension)
    assert stated.mean == max(i, j) / dimension
    assert phi.mean() == pytest.approx(stated.mean, abs=4 * stated.std / num**0.5 + 1e-12)
    assert phi.std() == pytest.approx(stated.std, rel=0.05, abs=1e-9)
    assert expect_grid_by_chance(i, j, dimension)[-1, -1] == stated.mean


@pytest.mark.parametrize(("j", "dimension"), [(1, 5), (3, 7), (10, 128)])
def test_one_direction_in_a_random_span_is_a_beta(j: int, dimension: int) -> None:
    known = scipy.stats.beta(j / 2, (dimension - j) / 2)
    stated = expect_by_chance(1, j, dimension)
    assert (stated.mean, stated.std) == pytest.approx((known.mean(), known.std()), rel=1e-12)


def test_chance_without_spread_gives_no_z() -> None:
    assert expect_by_chance(8, 3, 8).std == 0
    assert expect_by_chance(8, 3, 8).z(1.0) is None
    assert expect_by_chance(1, 1, 1) == (1.0, 0.0)
    assert expect_by_chance(1, 1, 10).z(0.1) == 0


@pytest.mark.parametrize(("rank", "dimension"), [(1, 1), (1, 3), (2, 5), (4, 4)])
def test_moments_of_a_random_projector(rng: np.random.Generator, rank: int, dimension: int) -> None:
    """E[P_11^2] = a + 2 b, E[P_12^2] = b, E[P_11 P_22] = a, by simulation."""
    basis = np.linalg.qr(rng.standard_normal((20_000, dimension, rank)))[0]
    projectors = basis @ basis.transpose(0, 2, 1)
    a, b = find_projector_moments(rank, dimension)
    assert np.square(projectors[:, 0, 0]).mean() == pytest.approx(a + 2 * b, abs=0.01)
    if dimension > 1:
        assert np.square(projectors[:, 0, 1]).mean() == pytest.approx(b, abs=0.005)
        assert (projectors[:, 0, 0] * projectors[:, 1, 1]).mean() == pytest.approx(a, abs=0.01)
