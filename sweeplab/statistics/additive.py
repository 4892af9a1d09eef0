"""Fits values by setting and seed with one effect of each setting and one of each seed; runs may be missing.

The model is value = setting + seed + residual. What a seed does to all settings alike is in the effect of the seed, so
that it does not count as a difference between settings, and settings with other seeds can be compared.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sweeplab.statistics.intervals import Array

_MAX_SWEEPS: Final = 200
_CONVERGED: Final = 1e-13


@dataclass(frozen=True)
class AdditiveFit:
    """Least squares over the runs that exist. K settings, S seeds."""

    effects_K: Array  # of each setting, as if it had run with every seed
    seeds_S: Array  # of each seed; they sum to 0
    residuals_KS: Array  # 0 where there is no run
    has_run_KS: NDArray[np.bool_]

    @cached_property
    def counts_K(self) -> NDArray[np.int_]:
        """Seeds of each setting."""
        counts: NDArray[np.int_] = self.has_run_KS.sum(axis=1)
        return counts

    @cached_property
    def own_df_K(self) -> Array:
        """Degrees of freedom of each setting's residuals: its runs less one, less its part of the seeds' effects."""
        free_K = np.maximum(self.counts_K - 1.0, 0.0)
        total = float(free_K.sum())
        used = max(int(self.has_run_KS.any(axis=0).sum()) - 1, 0)
        own_K: Array = free_K * (max(total - used, 0.0) / total if total else 0.0)
        return own_K


def fit_additive(values_KS: Array) -> AdditiveFit:
    """The fit of (K, S) values, NaN where there is no run: one sweep where none is missing, else until it settles."""
    has_run_KS = ~np.isnan(values_KS)
    residuals_KS = np.where(has_run_KS, values_KS, 0.0)
    effects_K, seeds_S = np.zeros(len(values_KS)), np.zeros(values_KS.shape[1])
    counts_K, counts_S = np.maximum(has_run_KS.sum(axis=1), 1), np.maximum(has_run_KS.sum(axis=0), 1)
    scale = float(np.abs(residuals_KS).max(initial=0.0)) or 1.0
    for _ in range(_MAX_SWEEPS):
        by_setting_K = residuals_KS.sum(axis=1) / counts_K
        residuals_KS = np.where(has_run_KS, residuals_KS - by_setting_K[:, None], 0.0)
        by_seed_S = residuals_KS.sum(axis=0) / counts_S
        residuals_KS = np.where(has_run_KS, residuals_KS - by_seed_S, 0.0)
        effects_K, seeds_S = effects_K + by_setting_K, seeds_S + by_seed_S
        if has_run_KS.all() or np.abs(by_seed_S).max(initial=0.0) < _CONVERGED * scale:
            break
    middle = seeds_S.mean() if len(seeds_S) else 0.0
    return AdditiveFit(effects_K + middle, seeds_S - middle, residuals_KS, has_run_KS)
