"""What settings cost, as far as it is known, and which settings are surely beaten."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sweeplab.report.evidence.costs import mean_by_setting
from sweeplab.report.evidence.estimates import Evidence, read_values_by_seed
from sweeplab.report.evidence.settings import Setting
from sweeplab.statistics.intervals import Array, Estimate, clip_estimate
from sweeplab.statistics.means import estimate_means
from sweeplab.statistics.pairs import find_better_pairs
from sweeplab.statistics.results import ResultTable

MARGIN: Final = 0.05  # of a measured cost; a setting that saves less is not kept for it
MOST_TIMES: Final = 3.0  # the mean, that the upper end of a cost may be for a budget from which on it surely fits
_COUNTED: Final = ("peak_allocated_bytes", "num_trainable_params", "num_total_params", "adapter_bytes")


@dataclass(frozen=True)
class Cost:
    """A metric of which less is better; arrays and lists are by setting."""

    metric: str
    means_K: Array  # NaN where it was not measured
    is_counted: bool  # exact, as bytes of tensors are; times and resident sets are measured, with noise
    estimates: list[Estimate | None]  # means with intervals for all settings at once; None where not measured

    @property
    def has_intervals(self) -> bool:
        return any(one is not None and one.low is not None for one in self.estimates)

    @property
    def vague_K(self) -> NDArray[np.bool_]:
        """True for settings of which few runs hardly tell what they cost."""
        ends = [None if one is None or one.high is None else (one.value, one.high) for one in self.estimates]
        return np.array([one is not None and one[1] > MOST_TIMES * one[0] for one in ends], dtype=bool)


def gather_cost(settings: list[Setting], metric: str) -> Cost:
    means_K, is_counted = mean_by_setting(settings, metric), metric.endswith(_COUNTED)
    estimates = [
        None if math.isnan(mean) else Estimate(mean, 0.0, math.inf, mean, mean, "nothing") for mean in means_K.tolist()
    ]
    return Cost(metric, means_K, is_counted, estimates if is_counted else _estimate_measured(settings, metric))


def _estimate_measured(settings: list[Setting], metric: str) -> list[Estimate | None]:
    """Means over seeds, without an interval for one seed; on the scale of logarithms, since noise grows with the size.

    What a seed does to all settings alike, such as a busy machine, is no difference between them and is left out.
    """
    by_seed = [_drop_copies(read_values_by_seed(setting, metric)) for setting in settings]
    measured = [index for index, values in enumerate(by_seed) if values]
    seeds = sorted({seed for values in by_seed for seed in values})
    values_KS = np.array([[by_seed[index].get(seed, math.nan) for seed in seeds] for index in measured])
    table = ResultTable(values_KS, is_log=bool(measured) and float(np.nanmin(values_KS)) > 0)
    estimates: list[Estimate | None] = [None] * len(settings)
    for index, one in zip(measured, estimate_means(table, with_common=False) if measured else [], strict=True):
        estimates[index] = clip_estimate(one, 0.0, math.inf)
    return estimates


def _drop_copies(by_seed: dict[int, float]) -> dict[int, float]:
    """One value where all are the same: a measurement that was taken once, for all trials that differ in seed only."""
    return dict(list(by_seed.items())[:1]) if len(set(by_seed.values())) == 1 else by_seed


def find_surely_better(evidence: Evidence) -> NDArray[np.bool_]:
    """True at [i, j] where setting i is better than j, for all pairs at once; nowhere if no error is known."""
    if evidence.compared() is None:
        return np.zeros((len(evidence.settings), len(evidence.settings)), dtype=bool)
    return find_better_pairs(evidence.table, evidence.sign)


def find_beaten(qualities: Sequence[Evidence], costs: Sequence[Cost]) -> NDArray[np.bool_]:
    """True for each setting of the first of `qualities` that is surely beaten, shape (K,).

    Another is then surely better in one of the qualities (intervals for all pairs at once), in no other quality worse
    by its mean, needs no more of what is counted, and at most `MARGIN` more of what is measured with noise. A setting
    with an unknown value beats nobody, and nobody beats it.
    """
    first = qualities[0]
    better_KK: NDArray[np.bool_] = np.zeros((len(first.settings), len(first.settings)), dtype=bool)
    no_worse_KK: NDArray[np.bool_] = ~better_KK
    for one in qualities:
        better_KK = better_KK | _spread_out(one, first, find_surely_better(one))
        means_K = one.sign * mean_by_setting(first.settings, one.metric)
        no_worse_KK &= means_K[:, None] >= means_K[None, :]
    for cost in costs:
        limit_K = cost.means_K if cost.is_counted else cost.means_K * (1 + MARGIN)
        no_worse_KK &= cost.means_K[:, None] <= limit_K[None, :]
    return np.array((better_KK & no_worse_KK).any(axis=0), dtype=bool)


def _spread_out(one: Evidence, first: Evidence, better_MM: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is known of the settings of `one`, for the settings of `first`; False for those that it does not have."""
    indices = [one.index_of(setting) for setting in first.settings]
    known = [order for order, index in enumerate(indices) if index is not None]
    chosen = [index for index in indices if index is not None]
    better_KK = np.zeros((len(indices), len(indices)), dtype=bool)
    better_KK[np.ix_(known, known)] = better_MM[np.ix_(chosen, chosen)]
    return better_KK
