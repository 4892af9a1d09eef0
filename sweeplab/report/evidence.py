"""One metric of a study's settings as the arrays that the statistics take, and what they say of each setting."""

import math
import statistics
from dataclasses import dataclass, replace

import numpy as np

from sweeplab.records import Score, StudyFacts, direction
from sweeplab.report.settings import SHARES, Setting, complete, numbers
from sweeplab.statistics.contrasts import Comparison, Table, compare_with_best
from sweeplab.statistics.intervals import Array, Estimate, item_interval, seed_intervals, share_interval, unknown
from sweeplab.store import Items, ItemTable


@dataclass(frozen=True)
class Evidence:
    """Settings that have the metric of every seed, and their results; S seeds that all of them ran with."""

    metric: str
    sign: int  # 1: more is better
    settings: list[Setting]
    table: Table
    estimates: list[Estimate]  # of every setting's mean

    def estimate(self, setting: Setting) -> Estimate | None:
        """None for a setting that has no place here."""
        place = self.place(setting)
        return None if place is None else self.estimates[place]

    def place(self, setting: Setting) -> int | None:
        return next((place for place, one in enumerate(self.settings) if one is setting), None)

    def compared(self) -> Comparison | None:
        return compare_with_best(self.table, self.sign)


def evidence(facts: StudyFacts, settings: list[Setting], metric: str, items: Items | None) -> Evidence | None:
    """None where no setting has the metric of every seed."""
    whole = [setting for setting in settings if setting.records and complete(facts, setting, metric)]
    if not whole:
        return None
    by_seed = [values_by_seed(setting, metric) for setting in whole]
    seeds = sorted(set.intersection(*(set(values) for values in by_seed)))
    values_KS = np.array([[values[seed] for seed in seeds] for values in by_seed])
    errors_KS = np.array([[single_error(setting, metric)] for setting in whole]) if len(seeds) == 1 else None
    by_item = item_values(whole, seeds, None if items is None else items.get(metric))
    table = Table(values_KS, by_item, errors_KS)
    better = facts.objectives[metric] if metric in facts.objectives else direction(metric)
    return Evidence(metric, 1 if better == "maximize" else -1, whole, table, estimates_of(whole, metric, values_KS))


def values_by_seed(setting: Setting, metric: str) -> dict[int, float]:
    """The metric by seed; a seed that ran twice gives its mean."""
    found: dict[int, list[float]] = {}
    for record in setting.finished:
        own = numbers(record)
        if metric in own:
            found.setdefault(record.seed, []).append(own[metric])
    return {seed: statistics.fmean(values) for seed, values in found.items()}


def item_values(settings: list[Setting], seeds: list[int], table: ItemTable | None) -> Array | None:
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


def single_score(setting: Setting, metric: str) -> Score | None:
    """The score behind the only seed's value; None for a metric that is no score."""
    if not metric.startswith("scores."):
        return None
    _, task, name = metric.split(".")
    return next((one.scores[task][name] for one in setting.finished if name in one.scores.get(task, {})), None)


def single_error(setting: Setting, metric: str) -> float:
    score = single_score(setting, metric)
    return math.nan if score is None or score.stderr is None else score.stderr


def estimates_of(settings: list[Setting], metric: str, values_KS: Array) -> list[Estimate]:
    """Means with intervals over seeds; over items where there is one seed; with none where neither is known."""
    if values_KS.shape[1] == 1:
        singles = zip(settings, values_KS[:, 0], strict=True)
        return [item_estimate(setting, metric, float(value)) for setting, value in singles]
    made = seed_intervals(values_KS)
    return [within_unit(one) for one in made] if is_share(metric) and (values_KS <= 1).all() else made


def is_share(metric: str) -> bool:
    """True for a score that is a share of items, between 0 and 1."""
    return metric.startswith("scores.") and metric.split(".")[-1].partition("@")[0] in SHARES


def within_unit(estimate: Estimate) -> Estimate:
    """Without what lies below 0 and above 1, where no share is; the cut takes nothing from what the interval covers."""
    assert estimate.low is not None
    assert estimate.high is not None
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def item_estimate(setting: Setting, metric: str, value: float) -> Estimate:
    score = single_score(setting, metric)
    if score is None:
        return unknown(value)
    hits = score.value * score.num_items
    if is_share(metric) and abs(hits - round(hits)) < 1e-6 and score.num_items > 0:
        return share_interval(value, score.num_items)
    return unknown(value) if score.stderr is None else item_interval(value, score.stderr, score.num_items)
