"""What is counted in one simulated study: wrong calls, calls of what is truly worse, and intervals that hold."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from scipy import stats

from experiments.benchmarks.coverage.studies import Study, weigh_toggles
from sweeplab.statistics.comparison import Comparison, compare_with_best
from sweeplab.statistics.contrasts import estimate_contrast
from sweeplab.statistics.intervals import LEVEL, TINY, Array, Estimate, shrink_best
from sweeplab.statistics.means import estimate_means

Measures = dict[str, float]  # what is not stated is not in it
_WEIGHTS_AK: Final = weigh_toggles()
WORST_OF_LOOKS: Final = ("wrong", "tukey wrong")  # one look suffices; of intervals all looks must hold


class Summary(NamedTuple):
    """The mean of a quantity over draws."""

    value: float
    se: float
    num_draws: int


def measure_study(study: Study, needs_intervals: bool = True) -> Measures:
    """One study, looked at once, with intervals or only with calls.

    Shares and truths are 0 to 1; biases are in standard deviations of one run.
    """
    comparison = compare_with_best(study.table, study.sign)
    measures = _measure_calls(study, comparison) | _measure_tukey(study)
    if study.means_K is None and np.ptp(study.effects_K) > 0:
        needs_intervals = False  # nobody knows by how much settings differ where failed runs count as the worst
    if not needs_intervals:
        return measures
    if comparison is not None:
        measures |= _measure_differences(study, comparison) | _measure_best(study, comparison.best)
    weights_K = np.zeros(len(study.effects_K))
    weights_K[0], weights_K[-1] = 1.0, -1.0
    contrast = estimate_contrast(study.table, weights_K)
    if contrast.low is not None:
        measures["contrast"] = _holds(contrast, float(weights_K @ study.effects_K))
    if study.table.main_KQ is not None:
        effects = [estimate_contrast(study.table, weights) for weights in _WEIGHTS_AK]
        held = [_holds(one, float(w @ study.effects_K)) for one, w in zip(effects, _WEIGHTS_AK, strict=True)]
        measures |= {"main effects": float(np.mean(held)), "worst toggle": held[_WORST_TOGGLE]}
    return measures


_WORST_TOGGLE: Final = 4  # the one that seeds act on most, in targets and budget


def measure_looks(study: Study, first: int = 2) -> Measures:
    """A study that gets one seed after the other and is looked at after each.

    Intervals must hold at every look. "stopped ..." is what is said at the first look at which any setting is called
    worse, or at the last.
    """
    num_seeds = study.table.num_seeds
    looks = [
        measure_study(study._replace(table=replace(study.table, values_KS=study.table.values_KS[:, :number])))
        for number in range(first, num_seeds + 1)
    ]
    stopped = next((look for look in looks if look["calls"] > 0), looks[-1])
    kept = ("means", "best mean", "differences", "contrast", "shrunken bias", "naive bias", "power")
    measures = {f"stopped {name}": stopped[name] for name in kept if name in stopped}
    for name in ("wrong", "tukey wrong", "means", "best mean", "differences", "contrast"):
        found = [look[name] for look in looks if name in look]
        measures[name] = max(found) if name in WORST_OF_LOOKS else min(found)
    return measures | {name: looks[-1][name] for name in ("power", "tukey power") if name in looks[-1]}


def summarize(draws: Sequence[Measures]) -> dict[str, Summary]:
    """Means over draws with standard errors; a share that is the same in all draws has that of two more each way."""
    names = dict.fromkeys(name for draw in draws for name in draw)
    summaries = {}
    for name in names:
        values = np.array([draw[name] for draw in draws if name in draw])
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        if spread == 0:
            share = (values.mean() * len(values) + 2) / (len(values) + 4)
            spread = math.sqrt(max(share * (1 - share), 0.0))
        summaries[name] = Summary(float(values.mean()), spread / math.sqrt(len(values)), len(values))
    return summaries


def _holds(estimate: Estimate, truth: float) -> float:
    if estimate.low is None or estimate.high is None:
        return 1.0
    rounding = TINY * max(1.0, abs(truth))
    return float(estimate.low - rounding <= truth <= estimate.high + rounding)


def _score_calls(study: Study, best: int, called: Sequence[int]) -> tuple[float, float | None]:
    """Whether one is called worse than `best` that is not, and the share of the truly worse that are called."""
    scores_K = study.sign * study.effects_K
    tiny = TINY * max(1.0, float(np.abs(scores_K).max()))
    wrong = any(scores_K[index] >= scores_K[best] - tiny for index in called)
    worse = set(np.flatnonzero(scores_K < scores_K.max() - tiny).tolist())
    return float(wrong), len(worse & set(called)) / len(worse) if worse else None


def _measure_calls(study: Study, comparison: Comparison | None) -> Measures:
    tied = range(len(study.effects_K)) if comparison is None else comparison.tied
    called = sorted(set(range(len(study.effects_K))) - set(tied))
    wrong, power = _score_calls(study, 0 if comparison is None else comparison.best, called)
    scores_K = study.sign * study.effects_K
    lost = float(int(np.argmax(scores_K)) in called)
    return {"wrong": wrong, "calls": float(len(called)), "best lost": lost} | (
        {} if power is None else {"power": power}
    )


def _measure_differences(study: Study, comparison: Comparison) -> Measures:
    pairs = zip(comparison.differences, study.effects_K - study.effects_K[comparison.best], strict=True)
    held = [_holds(one, float(truth)) for index, (one, truth) in enumerate(pairs) if index != comparison.best]
    return {"differences": min(held)}


def _measure_best(study: Study, best: int) -> Measures:
    """The intervals of all means and of the best's, and how far the best's number is above the truth."""
    means = estimate_means(study.table)
    if study.means_K is None or means[best].low is None:
        return {}
    held = [_holds(one, float(truth)) for one, truth in zip(means, study.means_K, strict=True)]
    measures = {"means": min(held), "best mean": held[best]}
    values_K, truth = study.table.means_K, float(study.means_K[best])
    if study.table.is_log:
        values_K, truth = np.log(values_K), math.log(truth)
    if study.table.spreads.pooled_df > 0:
        se = math.sqrt(study.table.spreads.pooled / study.table.num_seeds)
        shrunken = shrink_best(values_K, best, se)
        to_bias = study.sign / study.deviation
        measures |= {
            "naive bias": to_bias * (float(values_K[best]) - truth),
            "shrunken bias": to_bias * (shrunken - truth),
        }
    return measures


def _measure_tukey(study: Study) -> Measures:
    """The usual test at one look, Tukey's with one variance for all, for what it costs and gains."""
    values_KS = study.table.scaled_KS
    num_settings, num_seeds = values_KS.shape
    if num_seeds < 2 or np.isnan(values_KS).any():
        return {}
    means_K: Array = values_KS.mean(axis=1)
    left_KS = values_KS - means_K[:, None] - values_KS.mean(axis=0) + values_KS.mean()
    df = (num_settings - 1) * (num_seeds - 1)
    reach = _find_range(num_settings, df) * math.sqrt(float((left_KS**2).sum()) / df / num_seeds)
    best = int(np.argmax(study.sign * means_K))
    called = np.flatnonzero(study.sign * (means_K - means_K[best]) < -reach).tolist()
    wrong, power = _score_calls(study, best, called)
    return {"tukey wrong": wrong} | ({} if power is None else {"tukey power": power})


@cache
def _find_range(num_settings: int, df: int) -> float:
    return float(stats.studentized_range.ppf(LEVEL, num_settings, df))
