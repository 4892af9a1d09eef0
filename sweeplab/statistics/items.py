"""Values by item whose mean is a score, for scores that are no mean of their items.

Dimensions in names: N items, C clusters of them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sweeplab.statistics.intervals import Array


def linearize_ratio(sums_N: Array, counts_N: Array | NDArray[np.int64]) -> Array:
    """Values whose mean is r = sum(sums) / sum(counts), and whose standard error is that of r as items vary.

    r + (sums - r * counts) / mean(counts): the ratio estimator, linearized (Cochran 1977, Sampling Techniques, 6.4).
    """
    ratio = sums_N.sum() / counts_N.sum()
    values_N: Array = ratio + (sums_N - ratio * counts_N) / counts_N.mean()
    return values_N


def exponentiate_mean(values_N: Array) -> Array:
    """Values whose mean is e = exp(mean(values)), and whose standard error is that of e: e * (1 + values - mean)."""
    mean = float(values_N.mean())
    scaled_N: Array = math.exp(mean) * (1.0 + values_N - mean)
    return scaled_N


def sum_clusters(values_N: Array, clusters_N: NDArray[np.int64]) -> Array:
    """Values by cluster whose mean is that of the items, and whose standard error is the cluster-robust one.

    mean + C / N * (sum over the cluster's items of value - mean): what items of one cluster have in common counts once
    (Miller 2024, arXiv 2411.00640, 2.2; times C / (C - 1), as for few clusters). Clusters are numbered from 0.
    """
    mean = float(values_N.mean())
    sums_C: Array = np.bincount(clusters_N, values_N - mean).astype(np.float64)
    values_C: Array = mean + len(sums_C) / len(values_N) * sums_C
    return values_C
