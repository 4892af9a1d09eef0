"""Critical values of the sum of two errors whose variances are both estimated: of Behrens (1929) and Fisher (1935).

The difference of two settings with a moderated variance each is such a sum. One Student's t with degrees of freedom of
both together (Welch 1947) has tails that are too short where the freedoms are few and the level is high, as for all
pairs of many settings: with five degrees of freedom each and a tail of 6e-6 its value is 8.0 where the sum's is 14.2.
"""

import math
from functools import cache
from typing import Final

import numpy as np
from scipy import special

from sweeplab.statistics.intervals import Array

_DF_DIGITS: Final = 6  # degrees of freedom that differ by rounding share a table
_NUM_ANGLES: Final = 17
_NUM_NODES: Final = 48
_NUM_STEPS: Final = 32  # of the bisection
_LEFT_OUT: Final = 1e-4  # of the tail, beyond either end of the nodes


def find_sum_factors(variance_P2: Array, df_P2: Array, level: float) -> Array:
    """The two-sided critical values of P sums of two errors, in standard errors of the sum; 0 where there is none.

    Args:
        variance_P2: the estimated variances of both.
        df_P2: their degrees of freedom.
    """
    factor_P = np.zeros(len(variance_P2))
    angle_P = np.arctan2(np.sqrt(variance_P2[:, 1]), np.sqrt(variance_P2[:, 0]))
    rounded_P2, has_error_P = np.round(df_P2, _DF_DIGITS), variance_P2.sum(axis=1) > 0
    for one, other in np.unique(rounded_P2, axis=0).tolist():
        mask_P = has_error_P & (rounded_P2 == (one, other)).all(axis=1)
        angles, factors = _tabulate(one, other, level)
        factor_P[mask_P] = np.interp(angle_P[mask_P], angles, factors)
    return factor_P


@cache
def _tabulate(df: float, other_df: float, level: float) -> tuple[Array, Array]:
    """Angles a from 0 to a right one and the critical values of T cos(a) + T' sin(a), by bisection.

    Given both chi-squared variables the sum is normal, so that its tail is a mean of normal ones over these.
    """
    tail, angles = (1 - level) / 2, np.linspace(0, math.pi / 2, _NUM_ANGLES)
    ends = [-float(special.stdtrit(one, tail)) for one in (df, other_df)]
    (weight_N, share_N), (weight_M, share_M) = (_place_nodes(one, tail) for one in (df, other_df))
    inner_A11 = angles[1:-1, None, None]
    deviation_ANM = np.sqrt(np.cos(inner_A11) ** 2 / weight_N[:, None] + np.sin(inner_A11) ** 2 / weight_M)
    low_A, high_A = np.zeros(_NUM_ANGLES - 2), np.full(_NUM_ANGLES - 2, 2**0.5 * max(ends))
    for _ in range(_NUM_STEPS):
        middle_A = (low_A + high_A) / 2
        above_A = np.einsum("anm,n,m->a", special.ndtr(-middle_A[:, None, None] / deviation_ANM), share_N, share_M)
        low_A, high_A = np.where(above_A > tail, middle_A, low_A), np.where(above_A > tail, high_A, middle_A)
    return angles, np.array([ends[0], *((low_A + high_A) / 2).tolist(), ends[1]])


def _place_nodes(df: float, tail: float) -> tuple[Array, Array]:
    """Values of a chi-squared variable over its degrees of freedom, evenly on a logarithmic scale, and their shares."""
    lowest = math.log(2 * float(special.gammaincinv(df / 2, _LEFT_OUT * tail)))
    highest = math.log(2 * float(special.gammainccinv(df / 2, _LEFT_OUT * tail)))
    log_N = np.linspace(lowest, highest, _NUM_NODES)
    log_share_N = df / 2 * log_N - np.exp(log_N) / 2
    share_N = np.exp(log_share_N - log_share_N.max())
    return np.exp(log_N) / df, share_N / share_N.sum()
