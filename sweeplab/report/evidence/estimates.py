"""One metric of a study as the arrays that `statistics` needs, with an estimate of each setting's mean."""

import math
import statistics
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS, SHARES, direction, score_parts, split_filter
from sweeplab.records.record import Score, StudyFacts
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.item_values import stack_item_values
from sweeplab.report.evidence.settings import (
    LOSS,
    Setting,
    first_objective,
    is_complete,
    is_usable,
    keep_allowed,
    read_number,
)
from sweeplab.statistics.contrasts import Comparison, ResultTable, compare_with_best, estimate_contrast
from sweeplab.statistics.intervals import (
    LEVEL,
    Array,
    Estimate,
    clip_estimate,
    estimate_from_items,
    estimate_over_items,
    estimate_over_seeds,
    estimate_share,
    estimate_without_error,
)


@dataclass(frozen=True)
class Evidence:
    """One metric of the settings that have it for every seed; the table has the seeds that all of them ran with."""

    metric: str
    sign: int  # 1 where a larger value is better, else -1
    settings: list[Setting]
    table: ResultTable
    limits: tuple[float, float]  # smallest and largest possible value of the metric
    estimates: list[Estimate]  # the mean of every setting

    def estimate(self, setting: Setting) -> Estimate | None:
        """The mean of a setting; None where it is not among `settings`."""
        index = self.index_of(setting)
        return None if index is None else self.estimates[index]

    def index_of(self, setting: Setting) -> int | None:
        """The index of a setting in `settings`, or None."""
        return self._indices.get(id(setting))

    @cached_property
    def _indices(self) -> dict[int, int]:
        """By identity: two settings with the same varied values may be different ones."""
        return {id(setting): index for index, setting in enumerate(self.settings)}

    @property
    def best(self) -> Setting:
        """The setting with the best mean over the seeds of the table."""
        return self.settings[int(np.argmax(self.sign * self.table.values_KS.mean(axis=1)))]

    def contrast(self, weights_K: Array, level: float = LEVEL) -> Estimate:
        """The sum of weights times means, with its interval cut to the possible values."""
        return clip_estimate(estimate_contrast(self.table, weights_K, level), *_combine_limits(weights_K, *self.limits))

    def compared(self) -> Comparison | None:
        """The comparison of all settings with the best one; None where no error is known.

        Where all differences of a loss or a score are the same with every seed, no error is known, either.
        """
        comparison = compare_with_best(self.table, self.sign)
        if comparison is None:
            return None
        if self.table.num_seeds > 1 and is_seed_dependent(self.metric) and not comparison.uncertain:
            return None
        ends = _combine_limits(np.array([1.0, -1.0]), *self.limits)
        return replace(comparison, differences=[clip_estimate(one, *ends) for one in comparison.differences])


def gather_evidence(facts: StudyFacts, settings: list[Setting], metric: str, items: Items | None) -> Evidence | None:
    """The evidence of a metric; None where no setting has it for every seed, or the settings share no seed."""
    complete = [setting for setting in settings if setting.records and is_complete(facts, setting, metric)]
    if not complete:
        return None
    by_seed = [_read_values_by_seed(setting, metric) for setting in complete]
    seeds = sorted(set.intersection(*(set(values) for values in by_seed)))
    if not seeds:
        return None
    values_KS = np.array([[values[seed] for seed in seeds] for values in by_seed])
    errors_KS = np.array([[_find_single_error(setting, metric)] for setting in complete]) if len(seeds) == 1 else None
    by_item = stack_item_values(complete, seeds, None if items is None else items.get(metric), values_KS)
    table = ResultTable(values_KS, by_item, errors_KS)
    better = facts.objectives[metric] if metric in facts.objectives else direction(metric)
    limits = _find_limits(metric, values_KS)
    estimates = [clip_estimate(one, *limits) for one in _estimate_means(complete, metric, table)]
    return Evidence(metric, 1 if better == "maximize" else -1, complete, table, limits, estimates)


def _find_limits(metric: str, values_KS: Array) -> tuple[float, float]:
    """The possible values of a metric: 0 to 1 for a share, from 0 for losses, times and sizes, any for other scores."""
    if is_share(metric) and (values_KS <= 1).all():
        return 0.0, 1.0
    never_negative = metric in METRICS or any(word in metric for word in ("perplexity", "bits_per_byte"))
    return 0.0 if never_negative else -math.inf, math.inf


def _combine_limits(weights_K: Array, low: float, high: float) -> tuple[float, float]:
    """The smallest and largest possible sum of weights times means, where each mean is from `low` to `high`."""
    up, down = float(weights_K[weights_K > 0].sum()), float(weights_K[weights_K < 0].sum())
    ends = [(up, low, high), (down, high, low)]
    used = [one for one in ends if one[0] != 0]
    return sum(weight * end for weight, end, _ in used), sum(weight * end for weight, _, end in used)


def gather_comparable_evidence(
    facts: StudyFacts, settings: list[Setting], metric: str, items: Items | None
) -> dict[str, Evidence]:
    """The evidence of each group of `group_comparable`, by label; groups without evidence are left out."""
    groups = group_comparable(facts, settings, metric)
    by_label = {label: gather_evidence(facts, members, metric, items) for label, members in groups.items()}
    return {label: evidence for label, evidence in by_label.items() if evidence is not None}


def find_best_setting(facts: StudyFacts, settings: list[Setting]) -> Setting | None:
    """The best setting by the first objective, among those that keep the constraints and have a value for every seed.

    None where there is none, and where the objective cannot be compared over all settings.
    """
    metric, _ = first_objective(facts)
    if len(group_comparable(facts, settings, metric)) > 1:
        return None
    evidence = gather_evidence(facts, keep_allowed(facts, settings), metric, None)
    return None if evidence is None else evidence.best


def estimate_settings(
    facts: StudyFacts, settings: list[Setting], metric: str, items: Items | None = None
) -> dict[int, Estimate]:
    """Means with intervals of settings with a value for every seed, by the number of a setting's first trial.

    A setting with more seeds than the common ones is left out, because its own mean is over other seeds.
    """
    return {
        setting.records[0].number: estimate
        for evidence in gather_comparable_evidence(facts, settings, metric, items).values()
        for setting, estimate in zip(evidence.settings, evidence.estimates, strict=True)
        if setting.spreads[metric].num_seeds == evidence.table.num_seeds
    }


def _read_values_by_seed(setting: Setting, metric: str) -> dict[int, float]:
    """The metric by seed; the mean where a seed ran twice."""
    by_seed: dict[int, list[float]] = {}
    for record in setting.finished:
        value = read_number(record, metric)
        if value is not None:
            by_seed.setdefault(record.seed, []).append(value)
    return {seed: statistics.fmean(values) for seed, values in by_seed.items()}


def _find_single_score(setting: Setting, metric: str) -> Score | None:
    """The score of a setting with one seed; None for a metric that is not a score."""
    if not metric.startswith("scores."):
        return None
    task, name = score_parts(metric)
    return next((one.scores[task][name] for one in setting.finished if name in one.scores.get(task, {})), None)


def _find_single_error(setting: Setting, metric: str) -> float:
    score = _find_single_score(setting, metric)
    return math.nan if score is None or score.stderr is None or not is_usable(score.stderr) else score.stderr


def _estimate_means(settings: list[Setting], metric: str, table: ResultTable) -> list[Estimate]:
    """Means with intervals over seeds, or over items where there is one seed; without an interval where neither works.

    A loss or a score that is the same with all seeds has no interval: a spread of zero does not show how large random
    differences can be.
    """
    if table.num_seeds == 1:
        items = [None] * len(settings) if table.items_KSN is None else list(table.items_KSN[:, 0])
        singles = zip(settings, table.values_KS[:, 0], items, strict=True)
        return [_estimate_from_items(setting, metric, float(value), found) for setting, value, found in singles]
    estimates = estimate_over_seeds(table.values_KS)
    return [
        estimate_without_error(one.value) if is_seed_dependent(metric) and not one.has_spread else one
        for one in estimates
    ]


def is_seed_dependent(metric: str) -> bool:
    """True for a loss or a score, which another seed changes; a size may really be the same with all seeds."""
    return metric == LOSS or metric.startswith("scores.")


def is_share(metric: str) -> bool:
    """True for a score that is a share of items, between 0 and 1."""
    return metric.startswith("scores.") and split_filter(score_parts(metric)[1])[0] in SHARES


def _estimate_from_items(setting: Setting, metric: str, value: float, items_N: Array | None) -> Estimate:
    score = _find_single_score(setting, metric)
    is_log = score is not None and "perplexity" in metric
    if items_N is not None and (score is None or is_log or len(items_N) < score.num_items):  # a loss, or clusters
        return estimate_from_items(items_N, is_log)
    if score is None:
        return estimate_without_error(value)
    hits = score.value * score.num_items
    if is_share(metric) and 0 <= value <= 1 and abs(hits - round(hits)) < 1e-6 and score.num_items > 0:
        return estimate_share(value, score.num_items)
    error = _find_single_error(setting, metric)
    return estimate_without_error(value) if math.isnan(error) else estimate_over_items(value, error, score.num_items)
