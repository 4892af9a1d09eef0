"""How much of W lies where dW does: Hu et al. 2021 (arXiv 2106.09685), section 7.3 and table 7."""

import math
from typing import NamedTuple

import numpy as np

from sweeplab.analysis.adapters import Array
from sweeplab.analysis.spectra import Decomposition
from sweeplab.analysis.subspaces import find_projector_moments


class RandomNorm(NamedTuple):
    """||U^T W V||_F^2 for independent uniformly random U (O x r) and V (I x r): its mean and standard deviation."""

    mean_square: float
    std_square: float

    @property
    def root(self) -> float:
        """r ||W||_F / sqrt(O I): what a norm is near."""
        return math.sqrt(self.mean_square)

    def band(self) -> tuple[float, float]:
        """Norms whose squares lie within two standard deviations of the mean."""
        low, high = (self.mean_square + sign * 2 * self.std_square for sign in (-1, 1))
        return math.sqrt(max(0.0, low)), math.sqrt(high)


class Projection(NamedTuple):
    """One row of table 7: ||U^T W V||_F with the top r directions of dW, of W itself, and of chance."""

    rank: int
    update_norm: float  # ||dW||_F
    weight_norm: float  # ||W||_F
    on_update: float
    on_itself: float
    by_chance: RandomNorm

    @property
    def amplification(self) -> float | None:
        """||dW||_F / ||U^T W V||_F, directions of dW; None where W has nothing there."""
        return self.update_norm / self.on_update if self.on_update > 0 else None


def measure_projected_norm(weight_OI: Array, left_OR: Array, right_IR: Array) -> float:
    """||U^T W V||_F; U and V have orthonormal columns."""
    return float(np.linalg.norm(left_OR.T @ weight_OI @ right_IR))


def expect_random_norm(sizes_K: Array, rank: int, out_features: int, in_features: int) -> RandomNorm:
    """Exact for a W with singular values `sizes_K`: the squared norm is tr(P W Q W^T) with random projectors P and Q.

    Its mean is r^2 ||W||_F^2 / (O I); its second moment follows from that of the projectors and depends on
    t = ||W||_F^4 and f = sum(s^4).
    """
    squares_K = np.square(sizes_K)
    total = float(squares_K.sum())
    t, f = total * total, float(np.square(squares_K).sum())
    a, b = find_projector_moments(rank, out_features)
    c, e = find_projector_moments(rank, in_features)
    second = a * (c * t + 2 * e * f) + 2 * b * (c * f + e * (t + f))
    mean = rank * rank * total / (out_features * in_features)
    return RandomNorm(mean, math.sqrt(max(0.0, second - mean * mean)))


def project_onto_update(weight_OI: Array, sizes_K: Array, update: Decomposition) -> Projection:
    """The row of table 7 for an update; r is its rank, that of B A. `sizes_K`: W's singular values.

    On W's own top r directions the norm is sqrt(s_1^2 + ... + s_r^2).
    """
    rank = len(update.sizes_K)
    rows, columns = weight_OI.shape
    return Projection(
        rank,
        update.norm,
        float(np.sqrt(np.square(sizes_K).sum())),
        measure_projected_norm(weight_OI, update.left_OK, update.right_IK),
        float(np.sqrt(np.square(sizes_K[:rank]).sum())),
        expect_random_norm(sizes_K, rank, rows, columns),
    )
