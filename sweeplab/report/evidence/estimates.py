"""One metric of a study as the arrays that `statistics` needs, with an estimate of each setting's mean."""

import math
import statistics
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS, direction, grows_with_value, is_share, score_parts
from sweeplab.records.record import Score, Status, StudyFacts
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.formatting import format_value
from sweeplab.report.evidence.item_values import stack_item_values
from sweeplab.report.evidence.settings import (
    LOSS,
    Setting,
    collect_records,
    first_objective,
    is_usable,
    keep_allowed,
    list_axis_values,
    list_varied_keys,
    read_number,
)
from sweeplab.statistics.comparison import Comparison, compare_with_best, find_best
from sweeplab.statistics.contrasts import estimate_contrast
from sweeplab.statistics.factorial import build_main_effects
from sweeplab.statistics.intervals import (
    LEVEL,
    Array,
    Estimate,
    clip_estimate,
    estimate_from_items,
    estimate_over_items,
    estimate_share,
    estimate_without_error,
    shrink_best,
)
from sweeplab.statistics.means import estimate_means
from sweeplab.statistics.results import ResultTable

_WORSE: Final = (Status.PRUNED, Status.DIVERGED, Status.OUT_OF_MEMORY, Status.TIMED_OUT, Status.FAILED)


@dataclass(frozen=True)
class Evidence:
    """One metric of the settings that have it with one seed at least; runs that do not exist yet are missing.

    Of a loss or a score, a run that failed, diverged or was pruned counts as the worst value of the study: such runs
    are not missing by chance. One that a person stopped is missing.
    """

    metric: str
    sign: int  # 1 where a larger value is better, else -1
    settings: list[Setting]
    table: ResultTable
    limits: tuple[float, float]  # smallest and largest possible value of the metric
    estimates: list[Estimate]  # the mean of every setting's finished runs; all intervals hold at once
    lacking: list[list[int]]  # the seeds of the study that each setting has no run of
    num_worst: list[int]  # runs of each setting that count as the worst value

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
        """The setting with the best mean, seeds that others lack accounted for; of those with two seeds, if any."""
        return self.settings[find_best(self.table, self.sign)]

    def contrast(self, weights_K: Array, level: float = LEVEL) -> Estimate:
        """The sum of weights times means, with its interval cut to the possible values."""
        return clip_estimate(estimate_contrast(self.table, weights_K, level), *_combine_limits(weights_K, *self.limits))

    def expected_of_best(self) -> float:
        """What the best setting's mean is expected to be with fresh seeds (`shrink_best`)."""
        best = find_best(self.table, self.sign)
        estimate = self.estimates[best]
        error = math.sqrt(self.table.spreads.pooled / self.table.num_seeds) * (
            estimate.value if self.table.is_log else 1
        )
        return shrink_best(self.table.effects_K, best, error)

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
    """The evidence of a metric; None where no setting has it."""
    read = [(one, _leave_out(facts, read_values_by_seed(one, metric))) for one in settings]
    measured = [(one, values) for one, values in read if values]
    if not measured:
        return None
    members, by_setting = [setting for setting, _ in measured], [values for _, values in measured]
    sign = 1 if (facts.objectives.get(metric) or direction(metric)) == "maximize" else -1
    known = [value for values in by_setting for value in values.values()]
    worst = min(known) if sign > 0 else max(known)
    unlucky = [_list_worse_seeds(setting, metric, values) for setting, values in zip(members, by_setting, strict=True)]
    by_seed = [{**values, **dict.fromkeys(seeds, worst)} for values, seeds in zip(by_setting, unlucky, strict=True)]
    seeds = sorted({seed for values in by_seed for seed in values})
    values_KS = np.array([[values.get(seed, math.nan) for seed in seeds] for values in by_seed])
    table = ResultTable(
        values_KS,
        stack_item_values(members, seeds, None if items is None else items.get(metric), values_KS),
        np.array([[_find_single_error(setting, metric)] for setting in members]) if len(seeds) == 1 else None,
        num_items=_count_items(members, metric) if is_share(metric) and len(seeds) > 1 else 0,
        is_log=grows_with_value(metric) and min(known) > 0,
        eligible_K=_find_eligible(facts, values_KS, np.array([not seeds for seeds in unlucky])),
        main_KQ=_build_main_effects(facts, members),
    )
    limits = _find_limits(metric, values_KS)
    estimates = [
        estimate_without_error(statistics.fmean(values.values())) if seeds else clip_estimate(one, *limits)
        for one, values, seeds in zip(_estimate_means(members, metric, table), by_setting, unlucky, strict=True)
    ]
    expected = set[int]() if facts.race else set(facts.seeds)  # a race gives settings unlike numbers, a person may add
    lacking = [[seed for seed in sorted(expected) if seed not in values] for values in by_seed]
    return Evidence(metric, sign, members, table, limits, estimates, lacking, [len(one) for one in unlucky])


def _find_eligible(facts: StudyFacts, values_KS: Array, is_whole_K: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The settings that may be the best: those without a failed run, and in a race of those the ones that went furthest
    (with fewer seeds a setting has been left behind, or its luck has not been tried)."""
    counts_K = (~np.isnan(values_KS)).sum(axis=1)
    if facts.race is None or not is_whole_K.any():
        return is_whole_K
    eligible_K: NDArray[np.bool_] = is_whole_K & (counts_K == counts_K[is_whole_K].max())
    return eligible_K


def _leave_out(facts: StudyFacts, values: dict[int, float]) -> dict[int, float]:
    """The values by seed without those that are stated by themselves: of fresh seeds, which had no part in choosing,
    and of the seed that chose the finalists, where others are known."""
    if facts.race is None:
        return values
    chosen = {seed: value for seed, value in values.items() if seed not in facts.race.fresh_seeds}
    later = {seed: value for seed, value in chosen.items() if seed != facts.seeds[0]}
    return later if facts.race.num_finalists is not None and later else chosen


def _list_worse_seeds(setting: Setting, metric: str, values: dict[int, float]) -> list[int]:
    """The seeds with which the setting has no loss or score since its run failed, diverged or was pruned."""
    if not is_seed_dependent(metric):
        return []
    return sorted({one.seed for one in setting.records if one.status in _WORSE and one.seed not in values})


def _count_items(settings: list[Setting], metric: str) -> int:
    """The items that every trial was scored on; 0 where trials differ."""
    sizes = {setting.spreads[metric].num_items for setting in settings if metric in setting.spreads}
    return (sizes.pop() or 0) if len(sizes) == 1 else 0


def _build_main_effects(facts: StudyFacts, settings: list[Setting]) -> Array | None:
    """The columns of the main effects of what the settings vary; None for fewer than three settings."""
    records = collect_records(settings)
    columns = []
    for key in list_varied_keys(facts, records):
        values = [format_value(value) for value in list_axis_values(facts, records, key)]
        texts = [format_value(one.params[key]) if key in one.params else None for one in settings]
        columns.append([-1 if text is None else values.index(text) for text in texts])
    return build_main_effects(np.array(columns).T) if columns and len(settings) > 2 else None


def _find_limits(metric: str, values_KS: Array) -> tuple[float, float]:
    """The possible values of a metric: 0 to 1 for a share, from 0 for losses, times and sizes, any for other scores."""
    if is_share(metric) and np.nanmax(values_KS) <= 1:
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
    """The best setting by the first objective, among those that keep the constraints.

    None where there is none, where it has one seed of several, and where the objective cannot be compared over all
    settings.
    """
    metric, _ = first_objective(facts)
    if len(group_comparable(facts, settings, metric)) > 1:
        return None
    evidence = gather_evidence(facts, keep_allowed(facts, settings), metric, None)
    if evidence is None:
        return None
    best = find_best(evidence.table, evidence.sign)
    return evidence.settings[best] if evidence.table.counts_K[best] >= min(2, evidence.table.num_seeds) else None


def estimate_settings(
    facts: StudyFacts, settings: list[Setting], metric: str, items: Items | None = None
) -> dict[int, Estimate]:
    """Means with intervals of the settings that have a value, by the number of a setting's first trial. Those that keep
    the study's constraints have the intervals of the answer, which are for these at once."""
    allowed = keep_allowed(facts, settings)
    return {
        setting.records[0].number: estimate
        for members in ([settings] if len(allowed) == len(settings) else [settings, allowed])
        for evidence in gather_comparable_evidence(facts, members, metric, items).values()
        for setting, estimate in zip(evidence.settings, evidence.estimates, strict=True)
    }


def read_values_by_seed(setting: Setting, metric: str) -> dict[int, float]:
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
        return [_estimate_from_items(setting, metric, float(value), items_N) for setting, value, items_N in singles]
    return [
        estimate_without_error(one.value) if is_seed_dependent(metric) and not one.has_spread else one
        for one in estimate_means(table)
    ]


def is_seed_dependent(metric: str) -> bool:
    """True for a loss or a score, which another seed changes; a size may really be the same with all seeds."""
    return metric == LOSS or metric.startswith("scores.")


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
