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
from sweeplab.report.evidence.estimates import Evidence, gather_evidence, is_seed_dependent
from sweeplab.report.evidence.settings import Setting
from sweeplab.report.findings.claim_settings import find_levels, find_named, select_comparable, weigh_mean, weigh_pair
from sweeplab.statistics.contrasts import ResultTable, estimate_contrast
from sweeplab.statistics.intervals import LEVEL, Estimate, estimate_without_error

Word = Literal["supported", "contradicted", "inconclusive"]
_SAME_LEVEL: Final = 0.90


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


def judge_claims(facts: StudyFacts, settings: list[Setting], items: Items | None) -> list[Verdict]:
    """One for every claim of the study, in its order."""
    return [_judge_claim(facts, settings, items, ClaimConfig(**values)) for values in facts.claims]


def _judge_claim(facts: StudyFacts, settings: list[Setting], items: Items | None, claim: ClaimConfig) -> Verdict:
    judges: dict[str, Callable[[ClaimConfig, Evidence | None], Verdict]] = {
        "better": _judge_better,
        "same": _judge_same,
        "rises_with": _judge_trend,
        "falls_with": _judge_trend,
        "ratio": _judge_ratio,
        "value": _judge_value,
        "every": _judge_every,
    }
    members = select_comparable(facts, settings, claim)
    return judges[claim.forms()[0]](claim, gather_evidence(facts, members, claim.metric, items))


def _decide(estimate: Estimate, low: float, high: float) -> Word:
    """The rule of this module's page, for a claim that the effect lies between `low` and `high`."""
    if estimate.low is None or estimate.high is None:
        return "inconclusive"
    if low < estimate.low and estimate.high < high:
        return "supported"
    return "contradicted" if estimate.high < low or estimate.low > high else "inconclusive"


def _judge_estimate(
    claim: ClaimConfig, effect: str, estimate: Estimate | None, low: float, high: float, rule: str
) -> Verdict:
    if estimate is None:
        return Verdict(claim, "inconclusive", effect, None, rule, "not every seed of these settings has the metric")
    if _has_no_spread(claim, estimate):
        return Verdict(
            claim,
            "inconclusive",
            effect,
            estimate_without_error(estimate.value),
            rule,
            "no spread at all: the same with all seeds",
        )
    reason = "no error is known: one seed, and no items" if estimate.low is None else ""
    return Verdict(claim, _decide(estimate, low, high), effect, estimate, rule, reason)


def _has_no_spread(claim: ClaimConfig, estimate: Estimate) -> bool:
    """True for a loss or a score that is the same with several seeds, which does not tell how far chance goes."""
    return is_seed_dependent(claim.metric) and estimate.covers.startswith("seeds") and not estimate.has_spread


def _judge_better(claim: ClaimConfig, evidence: Evidence | None) -> Verdict:
    assert claim.better is not None
    assert claim.worse is not None
    weights_K = weigh_pair(evidence, claim.better, claim.worse)
    sign = 1 if evidence is None else evidence.sign
    low, high = (claim.margin, math.inf) if sign > 0 else (-math.inf, -claim.margin)
    rule = _describe_margin(claim, sign)
    estimate = None if evidence is None or weights_K is None else evidence.contrast(weights_K)
    return _judge_estimate(claim, "difference", estimate, low, high, rule)


def _describe_margin(claim: ClaimConfig, sign: int) -> str:
    return f"above {claim.margin:g}" if sign > 0 else f"below {0 - claim.margin:g}"


def _judge_same(claim: ClaimConfig, evidence: Evidence | None) -> Verdict:
    assert claim.same is not None
    weights_K = weigh_pair(evidence, *claim.same)
    estimate = None if evidence is None or weights_K is None else evidence.contrast(weights_K, _SAME_LEVEL)
    return _judge_estimate(
        claim, "difference", estimate, -claim.margin, claim.margin, f"within ±{claim.margin:g}, 90 % interval"
    )


def _judge_ratio(claim: ClaimConfig, evidence: Evidence | None) -> Verdict:
    """Geometric means' ratio; the interval comes from the logarithms, seed by seed."""
    assert claim.ratio is not None
    low, high = _claimed_range(claim)
    weights_K = weigh_pair(evidence, *claim.ratio)
    estimate = None
    if evidence is not None and weights_K is not None and (evidence.table.values_KS > 0).all():
        logs = estimate_contrast(ResultTable(np.log(evidence.table.values_KS)), weights_K)
        low_end, high_end = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
        ratio = math.exp(logs.value)
        se = None if logs.se is None else ratio * logs.se
        estimate = Estimate(ratio, se, logs.df, low_end, high_end, logs.covers)
    return _judge_estimate(claim, "ratio", estimate, low, high, _describe_range(claim))


def _claimed_range(claim: ClaimConfig) -> tuple[float, float]:
    assert claim.between is not None
    low, high = claim.between
    return -math.inf if low is None else low, math.inf if high is None else high


def _claimed_value_range(claim: ClaimConfig, evidence: Evidence | None) -> tuple[float, float]:
    """The claimed range of a value; an end beyond which no value can be is none."""
    low, high = _claimed_range(claim)
    least, most = (-math.inf, math.inf) if evidence is None else evidence.limits
    return low if low > least else -math.inf, high if high < most else math.inf


def _describe_range(claim: ClaimConfig) -> str:
    low, high = _claimed_range(claim)
    if math.isinf(low):
        return f"below {high:g}"
    return f"above {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"


def _judge_value(claim: ClaimConfig, evidence: Evidence | None) -> Verdict:
    assert claim.value is not None
    indices = [] if evidence is None else list(find_named(evidence, claim.value).values())
    estimate = None
    if evidence is not None and indices:
        estimate = evidence.contrast(weigh_mean(len(evidence.settings), indices))
    return _judge_estimate(claim, "value", estimate, *_claimed_value_range(claim, evidence), _describe_range(claim))


def _judge_every(claim: ClaimConfig, evidence: Evidence | None) -> Verdict:
    """Every setting for itself: all within: supported; one wholly outside: contradicted. Shows the one that decides."""
    assert claim.every is not None
    low, high = _claimed_value_range(claim, evidence)
    rule = f"each {_describe_range(claim)}"
    indices = [] if evidence is None else list(find_named(evidence, claim.every).values())
    if evidence is None or not indices:
        return _judge_estimate(claim, "value", None, low, high, rule)
    size = len(evidence.settings)
    judged = [
        _judge_estimate(claim, "value", evidence.contrast(weigh_mean(size, [k])), low, high, rule) for k in indices
    ]
    order = ("contradicted", "inconclusive", "supported")
    worst = min(
        range(len(judged)),
        key=lambda k: (order.index(judged[k].word), _distance_to_limits(judged[k].estimate, low, high)),
    )
    nearest = f"the nearest to the limit of {len(indices)} settings: {evidence.settings[indices[worst]].label}"
    return replace(judged[worst], reason=judged[worst].reason or nearest)


def _distance_to_limits(estimate: Estimate | None, low: float, high: float) -> float:
    """How far an interval's end is within the claimed range; negative outside."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return -math.inf
    return min(estimate.low - low, high - estimate.high)


def _judge_trend(claim: ClaimConfig, evidence: Evidence | None) -> Verdict:
    """The least-squares slope over the places of the axis's values, and no step that clearly goes the other way."""
    axis, sign = str(claim.axis()), 1 if claim.rises_with is not None else -1
    low, high = (claim.margin, math.inf) if sign > 0 else (-math.inf, -claim.margin)
    rule = f"{_describe_margin(claim, sign)}, and no step clearly the other way"
    levels = [] if evidence is None else find_levels(evidence, axis)
    if evidence is None or len(levels) < 2:
        return _judge_estimate(claim, "change per value", None, low, high, rule)
    means_LK = np.array([weigh_mean(len(evidence.settings), indices) for indices in levels])
    steps_L = np.arange(len(levels)) - (len(levels) - 1) / 2
    slope = evidence.contrast(steps_L @ means_LK / (steps_L**2).sum())
    judged = _judge_estimate(claim, "change per value", slope, low, high, rule)
    level = 1 - (1 - LEVEL) / (len(levels) - 1)
    steps = [evidence.contrast(after - before, level) for before, after in itertools.pairwise(means_LK)]
    turned = [index for index, step in enumerate(steps) if _is_opposite(step, sign) and not _has_no_spread(claim, step)]
    if not turned:
        return judged
    reason = f"step {turned[0] + 1} of {len(steps)} along {axis} goes the other way"
    return replace(judged, word="contradicted", reason=reason)


def _is_opposite(step: Estimate, sign: int) -> bool:
    end = step.high if sign > 0 else step.low
    return end is not None and sign * end < 0
