"""Claims against the records: an effect with its interval, and one word.

The rule for every form: the interval lies within what is claimed: supported; it lies wholly outside: contradicted; it
has parts of both, or there is none: inconclusive. Intervals hold 95 % each, and are not widened for the number of
claims, since each is stated before the study runs and stands for itself. `same` takes two one-sided tests at 5 %, which
is a 90 % interval (Schuirmann 1987).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from sweeplab.claims import ClaimConfig
from sweeplab.records import StudyFacts
from sweeplab.report.evidence import Evidence, evidence
from sweeplab.report.settings import Setting
from sweeplab.report.tables import Cell, Column
from sweeplab.report.tables import Table as Grid
from sweeplab.report.wording import DASH, ends_text, interval_text, number, signed_text, value_text
from sweeplab.statistics.contrasts import Table, contrast
from sweeplab.statistics.intervals import LEVEL, Array, Estimate
from sweeplab.store import Items

Word = Literal["supported", "contradicted", "inconclusive"]
SAME_LEVEL: Final = 0.90


@dataclass(frozen=True)
class Verdict:
    claim: ClaimConfig
    word: Word
    effect: str  # what the number is: 'difference', 'ratio', 'change per step', 'value'
    estimate: Estimate | None  # None where the settings have no such number
    rule: str  # what decides
    reason: str = ""  # why nothing was decided, or what beside the interval decided

    @property
    def is_ratio(self) -> bool:
        return self.effect == "ratio"


def verdicts(facts: StudyFacts, settings: list[Setting], items: Items | None) -> list[Verdict]:
    """One for every claim of the study, in its order."""
    return [verdict(facts, settings, items, ClaimConfig(**values)) for values in facts.claims]


def verdict(facts: StudyFacts, settings: list[Setting], items: Items | None, claim: ClaimConfig) -> Verdict:
    judges: dict[str, Callable[[ClaimConfig, Evidence | None], Verdict]] = {
        "better": judge_better,
        "same": judge_same,
        "rises_with": judge_trend,
        "falls_with": judge_trend,
        "ratio": judge_ratio,
        "value": judge_value,
        "every": judge_every,
    }
    return judges[claim.forms()[0]](claim, evidence(facts, settings, claim.metric, items))


def decided(estimate: Estimate, low: float, high: float) -> Word:
    """The rule of this module's page, for a claim that the effect lies between `low` and `high`."""
    if estimate.low is None or estimate.high is None:
        return "inconclusive"
    if low < estimate.low and estimate.high < high:
        return "supported"
    return "contradicted" if estimate.high < low or estimate.low > high else "inconclusive"


def ruled(claim: ClaimConfig, effect: str, estimate: Estimate | None, low: float, high: float, rule: str) -> Verdict:
    if estimate is None:
        return Verdict(claim, "inconclusive", effect, None, rule, "not every seed of these settings has the metric")
    reason = "no error is known: one seed, and no items" if estimate.low is None else ""
    return Verdict(claim, decided(estimate, low, high), effect, estimate, rule, reason)


def named(found: Evidence, setting: dict[str, Any]) -> dict[str, int]:
    """Places of the settings that `setting` names, by what else they differ in."""
    return {
        repr(sorted((key, value_text(value)) for key, value in one.params.items() if key not in setting)): place
        for place, one in enumerate(found.settings)
        if all(key in one.params and one.params[key] == value for key, value in setting.items())
    }


def mean_weights(num_settings: int, places: list[int]) -> Array:
    weights_K = np.zeros(num_settings)
    weights_K[places] = 1 / len(places)
    return weights_K


def pair_weights(found: Evidence | None, first: dict[str, Any], second: dict[str, Any]) -> Array | None:
    """First minus second, of settings that are alike in everything else; None where there is no such pair."""
    if found is None:
        return None
    ours, theirs = named(found, first), named(found, second)
    shared = [rest for rest in ours if rest in theirs] if set(first) == set(second) else []
    places = ([ours[rest] for rest in shared], [theirs[rest] for rest in shared]) if shared else None
    if places is None and ours and theirs and set(first) != set(second):
        places = (list(ours.values()), list(theirs.values()))
    if places is None:
        return None
    return mean_weights(len(found.settings), places[0]) - mean_weights(len(found.settings), places[1])


def judge_better(claim: ClaimConfig, found: Evidence | None) -> Verdict:
    assert claim.better is not None
    assert claim.worse is not None
    weights_K = pair_weights(found, claim.better, claim.worse)
    sign = 1 if found is None else found.sign
    low, high = (claim.margin, math.inf) if sign > 0 else (-math.inf, -claim.margin)
    rule = beyond(claim, sign)
    estimate = None if found is None or weights_K is None else found.contrast(weights_K)
    return ruled(claim, "difference", estimate, low, high, rule)


def beyond(claim: ClaimConfig, sign: int) -> str:
    return f"above {claim.margin:g}" if sign > 0 else f"below {0 - claim.margin:g}"


def judge_same(claim: ClaimConfig, found: Evidence | None) -> Verdict:
    assert claim.same is not None
    weights_K = pair_weights(found, *claim.same)
    estimate = None if found is None or weights_K is None else found.contrast(weights_K, SAME_LEVEL)
    return ruled(claim, "difference", estimate, -claim.margin, claim.margin, f"within ±{claim.margin:g}, 90 % interval")


def judge_ratio(claim: ClaimConfig, found: Evidence | None) -> Verdict:
    """Geometric means' ratio; the interval comes from the logarithms, seed by seed."""
    assert claim.ratio is not None
    low, high = ends_of(claim)
    weights_K = pair_weights(found, *claim.ratio)
    estimate = None
    if found is not None and weights_K is not None and (found.table.values_KS > 0).all():
        logs = contrast(Table(np.log(found.table.values_KS)), weights_K)
        low_end, high_end = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
        estimate = Estimate(math.exp(logs.value), None, logs.df, low_end, high_end, logs.covers)
    return ruled(claim, "ratio", estimate, low, high, range_rule(claim))


def ends_of(claim: ClaimConfig) -> tuple[float, float]:
    assert claim.between is not None
    low, high = claim.between
    return -math.inf if low is None else low, math.inf if high is None else high


def value_ends(claim: ClaimConfig, found: Evidence | None) -> tuple[float, float]:
    """The claimed range of a value; an end beyond which no value can be is none."""
    low, high = ends_of(claim)
    least, most = (-math.inf, math.inf) if found is None else found.limits
    return low if low > least else -math.inf, high if high < most else math.inf


def range_rule(claim: ClaimConfig) -> str:
    low, high = ends_of(claim)
    if math.isinf(low):
        return f"below {high:g}"
    return f"above {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"


def judge_value(claim: ClaimConfig, found: Evidence | None) -> Verdict:
    assert claim.value is not None
    places = [] if found is None else list(named(found, claim.value).values())
    estimate = None
    if found is not None and places:
        estimate = found.contrast(mean_weights(len(found.settings), places))
    return ruled(claim, "value", estimate, *value_ends(claim, found), range_rule(claim))


def judge_every(claim: ClaimConfig, found: Evidence | None) -> Verdict:
    """Every setting for itself: all within: supported; one wholly outside: contradicted. Shows the one that decides."""
    assert claim.every is not None
    low, high = value_ends(claim, found)
    rule = f"each {range_rule(claim)}"
    places = [] if found is None else list(named(found, claim.every).values())
    if found is None or not places:
        return ruled(claim, "value", None, low, high, rule)
    size = len(found.settings)
    judged = [ruled(claim, "value", found.contrast(mean_weights(size, [k])), low, high, rule) for k in places]
    order = ("contradicted", "inconclusive", "supported")
    worst = min(range(len(judged)), key=lambda k: (order.index(judged[k].word), room(judged[k].estimate, low, high)))
    label = found.settings[places[worst]].label
    return replace(judged[worst], reason=f"the nearest to the limit of {len(places)} settings: {label}")


def room(estimate: Estimate | None, low: float, high: float) -> float:
    """How far an interval's end is within the claimed range; negative outside."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return -math.inf
    return min(estimate.low - low, high - estimate.high)


def judge_trend(claim: ClaimConfig, found: Evidence | None) -> Verdict:
    """The least-squares slope over the places of the axis's values, and no step that clearly goes the other way."""
    axis, sign = str(claim.axis()), 1 if claim.rises_with is not None else -1
    low, high = (claim.margin, math.inf) if sign > 0 else (-math.inf, -claim.margin)
    rule = f"{beyond(claim, sign)}, and no step clearly the other way"
    levels = [] if found is None else levels_of(found, axis)
    if found is None or len(levels) < 2:
        return ruled(claim, "change per value", None, low, high, rule)
    means_LK = np.array([mean_weights(len(found.settings), places) for places in levels])
    steps_L = np.arange(len(levels)) - (len(levels) - 1) / 2
    slope = found.contrast(steps_L @ means_LK / (steps_L**2).sum())
    judged = ruled(claim, "change per value", slope, low, high, rule)
    level = 1 - (1 - LEVEL) / (len(levels) - 1)
    steps = [found.contrast(after - before, level) for before, after in itertools.pairwise(means_LK)]
    turned = [place for place, step in enumerate(steps) if goes_against(step, sign)]
    if not turned:
        return judged
    reason = f"step {turned[0] + 1} of {len(steps)} along {axis} goes the other way"
    return replace(judged, word="contradicted", reason=reason)


def goes_against(step: Estimate, sign: int) -> bool:
    end = step.high if sign > 0 else step.low
    return end is not None and sign * end < 0


def levels_of(found: Evidence, axis: str) -> list[list[int]]:
    """Places of settings by the axis's values in their order, as far as all values are alike in everything else."""
    values: list[Any] = []
    for one in found.settings:
        if axis in one.params and one.params[axis] not in values:  # a list is a value, but no key of a dictionary
            values.append(one.params[axis])
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    by_rest = [named(found, {axis: value}) for value in values]
    shared = set.intersection(*(set(places) for places in by_rest)) if by_rest else set()
    return [[places[rest] for rest in sorted(shared)] for places in by_rest] if shared else []


def verdict_table(judged: list[Verdict]) -> Grid | None:
    """One row per claim with our effect beside the published one; None without claims."""
    if not judged:
        return None
    titles = [
        Column("claim", numeric=False),
        Column("verdict", numeric=False),
        Column("ours"),
        Column("published"),
        Column("supported if", numeric=False),
    ]
    rows = []
    for one in judged:
        ours = Cell(DASH) if one.estimate is None else effect_cell(one, one.estimate)
        published = DASH if one.claim.published is None else effect_text(one, one.claim.published)
        words = Cell(one.claim.words, one.claim.source)
        rows.append([words, Cell(one.word, one.reason), ours, Cell(published), Cell(f"{one.effect} {one.rule}")])
    return Grid(titles, rows)


def effect_text(judged: Verdict, value: float) -> str:
    return number(value) if judged.is_ratio else signed_text(judged.claim.metric, value)


def effect_cell(judged: Verdict, estimate: Estimate) -> Cell:
    """The effect, and in small print its interval and what that covers."""
    if estimate.low is None or estimate.high is None:
        return Cell(effect_text(judged, estimate.value))
    ends = interval_text(judged.claim.metric, estimate)
    if judged.is_ratio:
        ends = ends_text("", estimate.low, estimate.high)
    return Cell(effect_text(judged, estimate.value), f"{ends} over {estimate.covers}")


class Published(NamedTuple):
    """A source's own value of a metric at a setting, for the charts."""

    metric: str
    params: dict[str, Any]
    value: float
    source: str


def published_values(judged: list[Verdict]) -> list[Published]:
    """Of the claims about one setting's value that give the source's figure."""
    claims = [one.claim for one in judged]
    return [
        Published(one.metric, one.value, one.published, one.source)
        for one in claims
        if one.value is not None and one.published is not None
    ]
