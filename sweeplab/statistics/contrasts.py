"""Differences and other sums of settings' means, from results that are paired by seed and by item.

The model is a mixed model with variances estimated by moments: the result of a trial on an item is the mean of the
setting plus random effects of the seed, of the item, and of their combination (the residual). A contrast L (weights w
over the settings) gives one number L_si for every seed s and item i, and

    Var(mean of L) = V_seed / S + max(MS_item - MS_residual, 0) / (S N)

V_seed is the variance over seeds of the mean of L over items; it contains the residual already. MS_item and
MS_residual are the mean squares of the table of L with S rows and N columns. Obuchowski and Rockette 1995 (and
Hillis 2007, doi 10.1002/sim.2532) analyze readers and cases in the same way; Miller 2024 (arXiv 2411.00640) explains
why results must be paired by item.

Each source of error has its own degrees of freedom and critical value; the squares of the limits are added (Howe 1974,
doi 10.1080/01621459.1974.10482991). With one factor by Satterthwaite two seeds would cover 88 %, not 95 %. Only the
part of the seeds is widened for looks (`level_with`): more seeds are scored on the same items.

Dimensions in names: K settings, S seeds, N items, Q columns of main effects.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweeplab.statistics.additive import fit_additive
from sweeplab.statistics.intervals import (
    LEVEL,
    TINY,
    Array,
    Estimate,
    combine_freedoms,
    estimate_without_error,
    find_t,
    level_with,
)
from sweeplab.statistics.moderated import average_prior
from sweeplab.statistics.results import ResultTable, compute_item_variance

_ALIKE_LEVEL: Final = 0.01  # of the test that a contrast's own variance is that of the main effects together


class Part(NamedTuple):
    """One source of error of a mean: its variance with its degrees of freedom."""

    variance: float
    df: float


def reach_of(parts: list[Part], level: float) -> float:
    """Half the width of the interval that holds with `level`."""
    return math.sqrt(sum(find_t(level, part.df) ** 2 * part.variance for part in parts if part.variance > 0))


@dataclass(frozen=True)
class _Scaled:
    """A contrast on the scale of the analysis, over the seeds that all its settings ran with."""

    table: ResultTable
    weights_K: Array
    used: NDArray[np.int_]  # indices of the settings with a weight
    seeds: NDArray[np.int_]  # indices

    def by_seed_S(self) -> Array:
        by_seed: Array = self.weights_K[self.used] @ self.table.scaled_KS[np.ix_(self.used, self.seeds)]
        return by_seed


def estimate_contrast(table: ResultTable, weights_K: Array, level: float = LEVEL) -> Estimate:
    """The sum of weights times means of settings, over the seeds that all of them ran with, at any look.

    With one seed the interval is over items, or there is none. A sum of logarithms is analyzed to first order: each
    weight times the setting's mean.
    """
    used = np.flatnonzero(weights_K)
    seeds = table.find_common_seeds(used)
    if len(seeds) == 0:
        return estimate_without_error(float(weights_K[used] @ table.means_K[used]))
    means_U = table.values_KS[np.ix_(used, seeds)].mean(axis=1)
    value = float(weights_K[used] @ means_U)
    scaled_K = np.zeros(len(weights_K))
    scaled_K[used] = weights_K[used] * (means_U if table.is_log else 1.0)
    contrast = _Scaled(table, scaled_K, used, seeds)
    of_seeds = level_with(len(seeds), level)
    by_seed = _find_seed_parts(contrast, of_seeds) if len(seeds) > 1 else []
    by_item = _find_item_parts(contrast)
    covers = " and ".join(name for name, known in (("seeds", by_seed), ("items", by_item)) if known)
    if not covers:
        return estimate_without_error(value)
    reach = math.hypot(reach_of(by_seed, of_seeds), reach_of(by_item, level))
    parts = [*by_seed, *by_item]
    largest, se = max(parts, key=lambda part: part.variance), math.sqrt(sum(part.variance for part in parts))
    return Estimate(value, se, largest.df, value - reach, value + reach, covers)


def _find_seed_parts(contrast: _Scaled, level: float) -> list[Part]:
    """The errors over seeds. Settings that share nothing have the contrast's own variance, as in a paired t test."""
    spreads, used, weights_K = contrast.table.spreads, contrast.used, contrast.weights_K
    num_seeds = len(contrast.seeds)
    own = Part(float(contrast.by_seed_S().var(ddof=1)) / num_seeds, num_seeds - 1.0)
    if not spreads.shares_K[used].all():
        return [own]
    common = Part(float(weights_K[~spreads.flat_K].sum()) ** 2 * spreads.common / num_seeds, spreads.common_df)
    if len(used) > 2:
        averaged = _find_averaged_parts(contrast, own, level)
        return [own] if averaged is None else [*averaged, common]
    squares_U = weights_K[used] ** 2 / num_seeds
    pooled = Part(float(squares_U.sum()) * spreads.pooled, spreads.pooled_df)
    own_U = squares_U * spreads.own_K[used]
    moderated = Part(float(own_U.sum()), float(combine_freedoms(own_U, spreads.own_df_K[used])))
    return [max(pooled, moderated, key=lambda part: reach_of([part], level)), common]


def _find_averaged_parts(contrast: _Scaled, own: Part, level: float) -> list[Part] | None:
    """The errors of a contrast that averages over settings: the seeds' own effects on the main effects of the axes.

    A seed may act on all settings with one value of an axis alike, which the spread of single settings does not show
    (in `reports/budget` such an effect was 40 times as large as the rest). The variance is pooled over the main effects
    of all axes, or moderated, whichever interval is wider: seeds may act on one axis far more than on the others. None
    where there are no axes to pool over, or where the contrast's own variance is larger than the pooled one by so much
    that it is none of theirs: then its own is used.
    """
    table, spreads = contrast.table, contrast.table.spreads
    if table.main_KQ is None:
        return None
    whole_K = spreads.shares_K & ~spreads.flat_K & table.has_run_KS.all(axis=1)
    if not whole_K[contrast.used].all():
        return None
    basis_PQ = _find_basis(table.main_KQ[whole_K])
    residuals_PS = fit_additive(table.scaled_KS[whole_K]).residuals_KS
    weights_P = contrast.weights_K[whole_K]
    centred_P = weights_P - weights_P.mean()
    num_seeds, num_main = table.num_seeds, basis_PQ.shape[1]
    if num_main < 2:
        return None
    main_df, other_df = num_main * (num_seeds - 1.0), (len(weights_P) - 1.0 - num_main) * (num_seeds - 1.0)
    of_main = float(((basis_PQ.T @ residuals_PS) ** 2).sum())
    in_main = float(((basis_PQ.T @ centred_P) ** 2).sum())
    parts = [Part(in_main * of_main / main_df / num_seeds, main_df)]
    if other_df > 0:
        of_others = max(float((residuals_PS**2).sum()) - of_main, 0.0)
        in_others = max(float((centred_P**2).sum()) - in_main, 0.0)
        parts.append(Part(in_others * of_others / other_df / num_seeds, other_df))
    of_differences = Part(float((centred_P @ residuals_PS).var(ddof=1)) / num_seeds, own.df)
    expected = sum(part.variance for part in parts)
    limit = float(stats.f.ppf(1 - _ALIKE_LEVEL, own.df, main_df))
    if of_differences.variance > limit * expected:
        return None
    prior = _find_main_prior(table.main_KQ[whole_K], residuals_PS)
    if prior is None:
        return parts
    moderated = (prior * expected + own.df * of_differences.variance) / (prior + own.df)
    return max([parts, [Part(moderated, prior + own.df)]], key=lambda one: reach_of(one, level))


def _find_main_prior(main_KQ: Array, residuals_KS: Array) -> float | None:
    """The degrees of freedom that what seeds do to one main effect gains from what they do to the others.

    None where seeds move fewer than two of them, as where scores of few items are the same by chance.
    """
    centred_KQ = main_KQ - main_KQ.mean(axis=0)
    squares_Q = ((centred_KQ.T @ residuals_KS) ** 2).sum(axis=1) / (centred_KQ**2).sum(axis=0).clip(min=TINY)
    df = residuals_KS.shape[1] - 1.0
    varied_Q = squares_Q[squares_Q > TINY * squares_Q.max(initial=0.0)]
    return average_prior(varied_Q / df, np.full(len(varied_Q), df)) if len(varied_Q) > 1 else None


def _find_basis(main_KQ: Array) -> Array:
    """Orthonormal columns of the main effects, each with a mean of 0 over the settings."""
    left_KQ, sizes_Q, _ = np.linalg.svd(main_KQ - main_KQ.mean(axis=0), full_matrices=False)
    basis_KQ: Array = left_KQ[:, sizes_Q > 1e-9 * sizes_Q.max(initial=1.0)]
    return basis_KQ


def _find_item_parts(contrast: _Scaled) -> list[Part]:
    """The error over items; none where nothing is known of it.

    With one seed and without results by item, the standard errors of the settings are combined as if each had other
    items. That is too wide for paired results, but never too narrow if the same items are hard for all settings.
    """
    table, used, weights_U = contrast.table, contrast.used, contrast.weights_K[contrast.used]
    items_KSN = table.scaled_items_KSN
    if items_KSN is not None and items_KSN.shape[2] > 1:
        results_SN = np.tensordot(weights_U, items_KSN[np.ix_(used, contrast.seeds)], axes=1)
        return [Part(compute_item_variance(results_SN), items_KSN.shape[2] - 1.0)]
    if (
        len(contrast.seeds) > 1
        or table.errors_KS is None
        or np.isnan(table.errors_KS[np.ix_(used, contrast.seeds)]).any()
    ):
        return []
    errors_U = table.errors_KS[np.ix_(used, contrast.seeds)][:, 0]
    if table.is_log:
        errors_U = errors_U / table.values_KS[np.ix_(used, contrast.seeds)][:, 0]
    return [Part(float(weights_U**2 @ errors_U**2), math.inf)]
