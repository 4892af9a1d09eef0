"""One metric of K settings over S seeds and N items, and what its errors are on the scale on which it is analyzed."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sweeplab.statistics.additive import fit_additive
from sweeplab.statistics.intervals import Array
from sweeplab.statistics.spreads import Spreads, estimate_spreads, find_resolution


@dataclass(frozen=True)
class ResultTable:
    """One metric of K settings. A run that does not exist is NaN; every setting has one run at least."""

    values_KS: Array  # the number in each trial's record
    items_KSN: Array | None = None  # results by item, whose mean over N is `values_KS`
    errors_KS: Array | None = None  # standard errors over items, used for one seed without items; NaN: unknown
    num_items: int = 0  # a value is a share of so many items; 0: it is no share
    is_log: bool = False  # the spread grows with the value, as that of a loss does, so that logarithms are analyzed
    eligible_K: NDArray[np.bool_] | None = None  # settings that may be the best, as none of their runs failed
    main_KQ: Array | None = None  # columns of the main effects of the axes (`factorial.build_main_effects`)

    @property
    def num_seeds(self) -> int:
        return int(self.values_KS.shape[1])

    @cached_property
    def scaled_KS(self) -> Array:
        """The values on the scale on which they are analyzed."""
        return np.log(self.values_KS) if self.is_log else self.values_KS

    @cached_property
    def scaled_items_KSN(self) -> Array | None:
        """Results by item whose mean over N is `scaled_KS`; of a logarithm to first order, item / value - 1 each."""
        if self.items_KSN is None or not self.is_log:
            return self.items_KSN
        return self.scaled_KS[..., None] + self.items_KSN / self.values_KS[..., None] - 1

    @cached_property
    def means_K(self) -> Array:
        """The mean over the seeds that each setting ran with."""
        means_K: Array = np.nanmean(self.values_KS, axis=1)
        return means_K

    @cached_property
    def effects_K(self) -> Array:
        """The means as if every setting had run with every seed; the means themselves where all have."""
        return self.means_K if self.is_complete else fit_additive(self.values_KS).effects_K

    @cached_property
    def has_run_KS(self) -> NDArray[np.bool_]:
        has_run: NDArray[np.bool_] = ~np.isnan(self.values_KS)
        return has_run

    @cached_property
    def _all_seeds(self) -> NDArray[np.int_]:
        return np.arange(self.num_seeds)

    @cached_property
    def counts_K(self) -> NDArray[np.int_]:
        """The seeds that each setting ran with."""
        counts: NDArray[np.int_] = self.has_run_KS.sum(axis=1)
        return counts

    @cached_property
    def is_complete(self) -> bool:
        return bool(self.has_run_KS.all())

    @cached_property
    def spreads(self) -> Spreads:
        num_settings = len(self.values_KS)
        floor_K = find_resolution(self.values_KS, self.num_items) if self.num_items else np.zeros(num_settings)
        return estimate_spreads(self.scaled_KS, floor_K)

    def find_common_seeds(self, used: NDArray[np.int_]) -> NDArray[np.int_]:
        """Indices of the seeds that all the settings at the indices `used` ran with."""
        if self.is_complete:
            return self._all_seeds
        common: NDArray[np.int_] = np.flatnonzero(self.has_run_KS[used].all(axis=0))
        return common


def compute_item_variance(results_SN: Array) -> float:
    """What other items would change: the part max(MS_item - MS_residual, 0) / (S N) of the variance of the mean."""
    num_seeds, num_items = results_SN.shape
    if num_items < 2:
        return 0.0
    by_item_N = results_SN.mean(axis=0)
    mean_square = num_seeds * by_item_N.var(ddof=1)
    if num_seeds == 1:
        return float(mean_square / num_items)
    residuals_SN = results_SN - by_item_N - results_SN.mean(axis=1, keepdims=True) + results_SN.mean()
    residual_mean_square = (residuals_SN**2).sum() / ((num_seeds - 1) * (num_items - 1))
    return float(max(mean_square - residual_mean_square, 0.0) / (num_seeds * num_items))
