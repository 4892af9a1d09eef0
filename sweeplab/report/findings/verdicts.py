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
from typing import Final, Literal

import numpy as np

from sweeplab.records.claim import ClaimConfig
from sweeplab.records.items import Items
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.estimates import Evidence, by_chance, evidence
from sweeplab.report.evidence.settings import Setting
from sweeplab.report.findings.claim_settings import comparable, levels_of, mean_weights, named, pair_weights
from sweeplab.statistics.contrasts import Table, contrast
from sweeplab.statistics.intervals import LEVEL, Estimate, unknown

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
    members = comparable(facts, settings, claim)
    return judges[claim.forms()[0]](claim, evidence(facts, members, claim.metric, items))


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
    if says_nothing(claim, estimate):
        return Verdict(
            claim, "inconclusive", effect, unknown(estimate.value), rule, "no spread at all: the same with all seeds"
        )
    reason = "no error is known: one seed, and no items" if estimate.low is None else ""
    return Verdict(claim, decided(estimate, low, high), effect, estimate, rule, reason)


def says_nothing(claim: ClaimConfig, estimate: Estimate) -> bool:
    """True for a loss or a score that is the same with several seeds, which does not tell how far chance goes."""
    return by_chance(claim.metric) and estimate.covers.startswith("seeds") and not estimate.has_spread


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
        ratio = math.exp(logs.value)
        se = None if logs.se is None else ratio * logs.se
        estimate = Estimate(ratio, se, logs.df, low_end, high_end, logs.covers)
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
    nearest = f"the nearest to the limit of {len(places)} settings: {found.settings[places[worst]].label}"
    return replace(judged[worst], reason=judged[worst].reason or nearest)


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
    turned = [place for place, step in enumerate(steps) if goes_against(step, sign) and not says_nothing(claim, step)]
    if not turned:
        return judged
    reason = f"step {turned[0] + 1} of {len(steps)} along {axis} goes the other way"
    return replace(judged, word="contradicted", reason=reason)


def goes_against(step: Estimate, sign: int) -> bool:
    end = step.high if sign > 0 else step.low
    return end is not None and sign * end < 0
