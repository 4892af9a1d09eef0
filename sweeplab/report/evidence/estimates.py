"""One metric of a study's settings as the arrays that the statistics take, with an estimate of each setting's mean."""

import math
import statistics
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sweeplab.records.items import Items, ItemTable
from sweeplab.records.metrics import METRICS, direction, score_parts
from sweeplab.records.record import Score, StudyFacts
from sweeplab.report.evidence.comparability import group_comparable
from sweeplab.report.evidence.settings import (
    LOSS,
    SHARES,
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
    estimate_over_items,
    estimate_over_seeds,
    estimate_share,
    estimate_without_error,
)


@dataclass(frozen=True)
class Evidence:
    """Settings that have the metric of every seed, and their results; S seeds that all of them ran with."""

    metric: str
    sign: int  # 1: more is better
    settings: list[Setting]
    table: ResultTable
    limits: tuple[float, float]  # between which the metric can be
    estimates: list[Estimate]  # of every setting's mean

    def estimate(self, setting: Setting) -> Estimate | None:
        """None for a setting that has no place here."""
        index = self.place(setting)
        return None if index is None else self.estimates[index]

    def place(self, setting: Setting) -> int | None:
        return self.places.get(id(setting))

    @cached_property
    def places(self) -> dict[int, int]:
        """By identity: settings with the same values of what varied are not the same."""
        return {id(setting): index for index, setting in enumerate(self.settings)}

    @property
    def best(self) -> Setting:
        """The setting with the best mean over the seeds that all have."""
        return self.settings[int(np.argmax(self.sign * self.table.values_KS.mean(axis=1)))]

    def contrast(self, weights_K: Array, level: float = LEVEL) -> Estimate:
        """Sum of weights times settings' means, with its interval as far as it can be."""
        return clip_estimate(estimate_contrast(self.table, weights_K, level), *_combine_limits(weights_K, *self.limits))

    def compared(self) -> Comparison | None:
        """None where no error is known, which of a loss or a score the same difference with all seeds does not tell."""
        made = compare_with_best(self.table, self.sign)
        if made is None or (self.table.num_seeds > 1 and is_seed_dependent(self.metric) and not made.uncertain):
            return None
        ends = _combine_limits(np.array([1.0, -1.0]), *self.limits)
        return replace(made, differences=[clip_estimate(one, *ends) for one in made.differences])


def gather_evidence(facts: StudyFacts, settings: list[Setting], metric: str, items: Items | None) -> Evidence | None:
    """None where no setting has the metric of every seed, or where the settings have no seed in common."""
    whole = [setting for setting in settings if setting.records and is_complete(facts, setting, metric)]
    if not whole:
        return None
    by_seed = [_read_values_by_seed(setting, metric) for setting in whole]
    seeds = sorted(set.intersection(*(set(values) for values in by_seed)))
    if not seeds:
        return None
    values_KS = np.array([[values[seed] for seed in seeds] for values in by_seed])
    errors_KS = np.array([[_find_single_error(setting, metric)] for setting in whole]) if len(seeds) == 1 else None
    by_item = _stack_item_values(whole, seeds, None if items is None else items.get(metric))
    table = ResultTable(values_KS, by_item, errors_KS)
    better = facts.objectives[metric] if metric in facts.objectives else direction(metric)
    limits = _find_limits(metric, values_KS)
    made = [clip_estimate(one, *limits) for one in _estimate_means(whole, metric, values_KS)]
    return Evidence(metric, 1 if better == "maximize" else -1, whole, table, limits, made)


def _find_limits(metric: str, values_KS: Array) -> tuple[float, float]:
    """Between which the metric can be: a share in 0 to 1, a loss, a time or a size from 0, other scores anywhere."""
    if is_share(metric) and (values_KS <= 1).all():
        return 0.0, 1.0
    never_negative = metric in METRICS or any(word in metric for word in ("perplexity", "bits_per_byte"))
    return 0.0 if never_negative else -math.inf, math.inf


def _combine_limits(weights_K: Array, low: float, high: float) -> tuple[float, float]:
    """Between which a sum of weights times means can be, each of them from `low` to `high`."""
    up, down = float(weights_K[weights_K > 0].sum()), float(weights_K[weights_K < 0].sum())
    ends = [(up, low, high), (down, high, low)]
    used = [one for one in ends if one[0] != 0]
    return sum(weight * end for weight, end, _ in used), sum(weight * end for weight, _, end in used)


def gather_comparable_evidence(
    facts: StudyFacts, settings: list[Setting], metric: str, items: Items | None
) -> dict[str, Evidence]:
    """The evidence of each of `by_meaning`'s families that has any."""
    families = group_comparable(facts, settings, metric)
    made = {label: gather_evidence(facts, members, metric, items) for label, members in families.items()}
    return {label: found for label, found in made.items() if found is not None}


def find_best_setting(facts: StudyFacts, settings: list[Setting]) -> Setting | None:
    """The best by the first objective, of the settings that keep the constraints and have all their values.

    None without one, and where the objective does not mean the same for all of them.
    """
    metric, _ = first_objective(facts)
    if len(group_comparable(facts, settings, metric)) > 1:
        return None
    evidence = gather_evidence(facts, keep_allowed(facts, settings), metric, None)
    return None if evidence is None else evidence.best


def estimate_settings(facts: StudyFacts, settings: list[Setting], metric: str) -> dict[int, Estimate]:
    """Means with intervals by the number of a setting's first trial, of settings that have every seed's value.

    A setting with more seeds than all share has none here: its own mean, over all of them, is another one.
    """
    return {
        setting.records[0].number: estimate
        for found in gather_comparable_evidence(facts, settings, metric, None).values()
        for setting, estimate in zip(found.settings, found.estimates, strict=True)
        if setting.spreads[metric].num_seeds == found.table.num_seeds
    }


def _read_values_by_seed(setting: Setting, metric: str) -> dict[int, float]:
    """The metric by seed; a seed that ran twice gives its mean."""
    found: dict[int, list[float]] = {}
    for record in setting.finished:
        value = read_number(record, metric)
        if value is not None:
            found.setdefault(record.seed, []).append(value)
    return {seed: statistics.fmean(values) for seed, values in found.items()}


def _stack_item_values(settings: list[Setting], seeds: list[int], table: ItemTable | None) -> Array | None:
    """Results by setting, seed and item, (K, S, N); None where a trial's are not known."""
    if table is None:
        return None
    rows = []
    for setting in settings:
        for seed in seeds:
            found = [table.values.get(record.number) for record in setting.finished if record.seed == seed]
            known = [values for values in found if values is not None]
            if not known or len(known) < len(found):
                return None
            rows.append(np.mean(known, axis=0))
    return np.array(rows).reshape(len(settings), len(seeds), len(table.items))


def _find_single_score(setting: Setting, metric: str) -> Score | None:
    """The score behind the only seed's value; None for a metric that is no score."""
    if not metric.startswith("scores."):
        return None
    task, name = score_parts(metric)
    return next((one.scores[task][name] for one in setting.finished if name in one.scores.get(task, {})), None)


def _find_single_error(setting: Setting, metric: str) -> float:
    score = _find_single_score(setting, metric)
    return math.nan if score is None or score.stderr is None or not is_usable(score.stderr) else score.stderr


def _estimate_means(settings: list[Setting], metric: str, values_KS: Array) -> list[Estimate]:
    """Means with intervals over seeds; over items where there is one seed; with none where neither is known.

    A loss or a score that is the same with all seeds has none: a spread of zero does not tell how far chance goes.
    """
    if values_KS.shape[1] == 1:
        singles = zip(settings, values_KS[:, 0], strict=True)
        return [_estimate_from_items(setting, metric, float(value)) for setting, value in singles]
    made = estimate_over_seeds(values_KS)
    return [
        estimate_without_error(one.value) if is_seed_dependent(metric) and not one.has_spread else one for one in made
    ]


def is_seed_dependent(metric: str) -> bool:
    """True for a loss or a score, which another seed would change; a size may well be the same with all."""
    return metric == LOSS or metric.startswith("scores.")


def is_share(metric: str) -> bool:
    """True for a score that is a share of items, between 0 and 1."""
    return metric.startswith("scores.") and metric.split(".")[-1].partition("@")[0] in SHARES


def _estimate_from_items(setting: Setting, metric: str, value: float) -> Estimate:
    score = _find_single_score(setting, metric)
    if score is None:
        return estimate_without_error(value)
    hits = score.value * score.num_items
    if is_share(metric) and 0 <= value <= 1 and abs(hits - round(hits)) < 1e-6 and score.num_items > 0:
        return estimate_share(value, score.num_items)
    error = _find_single_error(setting, metric)
    return estimate_without_error(value) if math.isnan(error) else estimate_over_items(value, error, score.num_items)
