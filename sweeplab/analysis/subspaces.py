"""How much two subspaces share: Hu et al. 2021 (arXiv 2106.09685), section 7.2 and appendix G, and what chance gives.

The appendix contradicts itself: with d the projection metric, d^2 = p - sum of squared cosines and p = min(i, j), it
writes phi = (1 / p)(1 - d^2), whereas its own definitions give phi = 1 - d^2 / p. Both agree for p = 1
only; equal spans of p dimensions have phi = 1 by the second and 1 / p by the first. The second is computed here.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from sweeplab.analysis.adapters import Array

TOLERANCE: Final = 1e-10  # of the largest singular value: directions below it are rounding


class Chance(NamedTuple):
    """phi of two independent uniformly random subspaces: its mean and standard deviation."""

    mean: float
    std: float

    def z(self, phi: float) -> float | None:
        """Standard deviations above chance; None where chance has no spread, as in the whole space."""
        return (phi - self.mean) / self.std if self.std > 0 else None


def find_directions(rows_RD: Array) -> Array:
    """Right singular vectors of a matrix as columns, shape (D, k), the strongest first; k its numerical rank.

    For A they are the paper's; for B, whose left ones are meant, give B^T.
    """
    _, sizes_R, vectors_RD = np.linalg.svd(rows_RD, full_matrices=False)
    num_kept = int((sizes_R > TOLERANCE * sizes_R[0]).sum()) if sizes_R[0] > 0 else 0
    kept: Array = vectors_RD[:num_kept].T
    return kept


def measure_similarity(one_DI: Array, other_DJ: Array) -> Array:
    """phi of the first i and the first j columns, shape (I, J): ||U_i^T V_j||_F^2 / min(i, j), from 0 to 1.

    Columns must be orthonormal; entry [i - 1, j - 1]. 1: one span holds the other; 0: orthogonal.
    """
    squares_IJ = np.square(one_DI.T @ other_DJ)
    smaller_IJ = np.minimum.outer(np.arange(one_DI.shape[1]) + 1.0, np.arange(other_DJ.shape[1]) + 1.0)
    phi_IJ: Array = squares_IJ.cumsum(0).cumsum(1) / smaller_IJ
    return phi_IJ


def find_projector_moments(rank: int, dimension: int) -> tuple[float, float]:
    """(a, b) with E[P_ij P_kl] = a d_ij d_kl + b (d_ik d_jl + d_il d_jk), P on a random subspace of `rank` dimensions.

    The form follows from invariance under rotations; a and b from tr P = tr P^2 = rank.
    """
    r, d = float(rank), float(dimension)
    b = r * (d - r) / (d * (d - 1) * (d + 2)) if dimension > 1 else 0.0
    return (r * r - 2 * b * d) / (d * d), b


def expect_by_chance(i: int, j: int, dimension: int) -> Chance:
    """phi of independent uniformly random subspaces of i and j of `dimension` dimensions, exactly.

    The mean of tr(P Q) is ij / d, so that of phi is max(i, j) / d; the variance of tr(P Q) is
    2 i (d - i) j (d - j) / (d^2 (d - 1) (d + 2)). The rows of a Gaussian matrix, the paper's control, span such a one.
    """
    d, smaller = dimension, min(i, j)
    if d == 1:
        return Chance(1.0, 0.0)
    variance = 2.0 * i * (d - i) * j * (d - j) / (d * d * (d - 1) * (d + 2))
    return Chance(max(i, j) / d, math.sqrt(variance) / smaller)


def expect_grid_by_chance(num_i: int, num_j: int, dimension: int) -> Array:
    """Mean of phi by chance for i up to `num_i` and j up to `num_j`, as `similarity` places them."""
    grid: Array = np.maximum.outer(np.arange(num_i) + 1.0, np.arange(num_j) + 1.0) / dimension
    return grid
