"""Singular values of an update without the update, and how many dimensions they amount to."""

from typing import NamedTuple

import numpy as np

from sweeplab.analysis.adapters import Array, Factors
from sweeplab.analysis.subspaces import TOLERANCE


class Decomposition(NamedTuple):
    """W = left @ diag(sizes) @ right^T for the k directions above rounding, the strongest first."""

    left_OK: Array
    sizes_K: Array
    right_IK: Array

    @property
    def norm(self) -> float:
        """Frobenius."""
        return float(np.sqrt(np.square(self.sizes_K).sum()))


class Dimensions(NamedTuple):
    """How many directions a spectrum amounts to; from 1, where one holds all, to their number, where all are equal."""

    effective_rank: float  # exp of the entropy of s / sum(s). Roy and Vetterli 2007
    stable_rank: float  # sum(s^2) / max(s)^2. Rudelson and Vershynin 2007
    participation_ratio: float  # sum(s^2)^2 / sum(s^4), of the squares as a covariance's spectrum. Gao et al. 2017


def _truncate(left_OR: Array, sizes_R: Array, right_RI: Array) -> Decomposition:
    num_kept = int((sizes_R > TOLERANCE * sizes_R[0]).sum()) if sizes_R[0] > 0 else 0
    return Decomposition(left_OR[:, :num_kept], sizes_R[:num_kept], right_RI[:num_kept].T)


def find_spectrum(weight_OI: Array) -> Array:
    """Singular values of a whole matrix above rounding, the largest first."""
    sizes_K = np.linalg.svd(weight_OI, compute_uv=False)
    kept: Array = sizes_K[sizes_K > TOLERANCE * sizes_K[0]]
    return kept


def decompose_update(factors: Factors) -> Decomposition:
    """SVD of scaling * B A in O((O + I) R^2): of Q_B R_B (Q_A R_A)^T only the R x R middle needs one."""
    left_OQ, b_QR = np.linalg.qr(factors.b_OR)
    right_IQ, a_QR = np.linalg.qr(factors.a_RI.T)
    u_QR, sizes_R, v_RQ = np.linalg.svd(factors.scaling * (b_QR @ a_QR.T), full_matrices=False)
    return _truncate(left_OQ @ u_QR, sizes_R, v_RQ @ right_IQ.T)


def count_dimensions(sizes_K: Array) -> Dimensions | None:
    """None for an empty spectrum: a matrix of zeros has no dimension.

    What Gao et al. (bioRxiv 214262) call dimensionality is a property of a spectrum; the intrinsic dimension of a task
    (Li et al. 2018, Aghajanyan et al. 2020: the smallest random subspace in which training still works) is another
    thing, and needs training.
    """
    if not len(sizes_K):
        return None
    parts_K = sizes_K / sizes_K[0]
    shares_K = parts_K / parts_K.sum()
    entropy = -float((shares_K * np.log(shares_K)).sum())
    squares_K = np.square(parts_K)
    ratio = float(squares_K.sum()) ** 2 / float(np.square(squares_K).sum())
    return Dimensions(float(np.exp(entropy)), float(squares_K.sum()), ratio)
