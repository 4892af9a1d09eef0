"""Claims against the records: an effect with its interval, and one word.

The rule for every form: the interval lies within what is claimed: supported; it lies wholly outside: contradicted; it
has parts of both, or there is none: inconclusive. Several claims of a study are corrected by Holm's procedure (1979):
all are judged at the level divided by their number; those that are decided leave, and the others are judged again at
the level divided by the number that is left. So in 95 of 100 studies no claim is decided that is not so, at any number
of seeds (`level_with`). A claim that is marked exploratory stands for itself. `same` takes two one-sided tests, each at
the whole error, which is an interval with twice the error (Schuirmann 1987).

A word needs two seeds, and a run of every seed for all settings that the claim names.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from sweeplab.records.claim import ClaimConfig, fingerprint_claim
from sweeplab.records.items import Items
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.evidence.estimates import Evidence, gather_evidence, is_seed_dependent
from sweeplab.report.evidence.formatting import count_noun
from sweeplab.report.evidence.settings import Setting, collect_records
from sweeplab.report.findings.claim_settings import (
    find_levels,
    find_named,
    list_unmeasured,
    select_comparable,
    weigh_mean,
    weigh_pair,
)
from sweeplab.statistics.contrasts import estimate_contrast
from sweeplab.statistics.intervals import LEVEL, Array, Estimate, estimate_without_error
from sweeplab.statistics.results import ResultTable

Word = Literal["supported", "contradicted", "inconclusive"]
_ERROR: Final = 1 - LEVEL


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


@dataclass(frozen=True)
class _Case:
    """A claim with the evidence that it is judged by, at its share of the error."""

    claim: ClaimConfig
    evidence: Evidence | None
    error: float
    incomplete: str  # what the settings that it names lack; empty where they lack nothing

    @property
    def level(self) -> float:
        return 1 - self.error


def judge_claims(facts: StudyFacts, settings: list[Setting], items: Items | None) -> list[Verdict]:
    """One for every claim of the study, in its order."""
    cases = [_open_case(facts, settings, items, ClaimConfig(**values)) for values in facts.claims]
    verdicts = {index: _judge(case) for index, case in enumerate(cases) if case.claim.exploratory}
    left = [index for index in range(len(cases)) if index not in verdicts]
    while left:
        judged = {index: _judge(replace(cases[index], error=_ERROR / len(left))) for index in left}
        decided = {index: one for index, one in judged.items() if one.word != "inconclusive"}
        verdicts |= decided or judged
        left = [index for index in left if index not in verdicts]
    records = collect_records(settings)
    return [_mark_origin(verdicts[index], records) for index in range(len(cases))]


def _open_case(facts: StudyFacts, settings: list[Setting], items: Items | None, claim: ClaimConfig) -> _Case:
    members = select_comparable(facts, settings, claim)
    evidence = gather_evidence(facts, members, claim.metric, items)
    return _Case(claim, evidence, _ERROR, list_unmeasured(facts, members, evidence, claim))


def _mark_origin(verdict: Verdict, records: list[TrialRecord]) -> Verdict:
    """Says of a claim that it is exploratory, or that it was not there when the first trial of the study ended."""
    marks = ["exploratory: judged for itself"] if verdict.claim.exploratory else []
    known = [one.provenance["claims"] for one in records if "claims" in one.provenance]
    if known and fingerprint_claim(verdict.claim) not in known[0]:
        marks.append("written after the first result")
    return replace(verdict, reason="; ".join(filter(None, (verdict.reason, *marks))))


def _judge(case: _Case) -> Verdict:
    judges: dict[str, Callable[[_Case], Verdict]] = {
        "better": _judge_better,
        "same": _judge_same,
        "rises_with": _judge_trend,
        "falls_with": _judge_trend,
        "ratio": _judge_ratio,
        "value": _judge_value,
        "every": _judge_every,
    }
    return judges[case.claim.forms()[0]](case)


def _decide(estimate: Estimate, low: float, high: float) -> Word:
    """The rule of this module's page, for a claim that the effect lies between `low` and `high`."""
    if estimate.low is None or estimate.high is None:
        return "inconclusive"
    if low < estimate.low and estimate.high < high:
        return "supported"
    return "contradicted" if estimate.high < low or estimate.low > high else "inconclusive"


def _judge_estimate(case: _Case, effect: str, estimate: Estimate | None, low: float, high: float, rule: str) -> Verdict:
    """The word of an estimate; inconclusive, with the reason, where the records are not enough for one."""
    claim, reason = case.claim, ""
    if estimate is None:
        reason = case.incomplete or "no setting has the metric"
    elif _has_no_spread(claim, estimate):
        estimate, reason = estimate_without_error(estimate.value), "no spread at all: the same with all seeds"
    elif case.incomplete:
        reason = case.incomplete
    elif is_seed_dependent(claim.metric) and not estimate.covers.startswith("seeds"):
        of_items = "; the interval is over items" if estimate.low is not None else ""
        reason = f"not decided: one seed{of_items}"
    elif estimate.low is None:
        reason = "no error is known: one seed"
    else:
        return Verdict(claim, _decide(estimate, low, high), effect, estimate, rule, _describe_worst(case))
    return Verdict(claim, "inconclusive", effect, estimate, rule, reason)


def _describe_worst(case: _Case) -> str:
    """How many runs count as the worst value, since they failed; nothing without any."""
    num_worst = 0 if case.evidence is None else sum(case.evidence.num_worst)
    if not num_worst:
        return ""
    return f"{count_noun(num_worst, 'run')} that did not finish {'counts' if num_worst == 1 else 'count'} as the worst"


def _has_no_spread(claim: ClaimConfig, estimate: Estimate) -> bool:
    """True for a loss, a score or a time that is the same with several seeds, which does not tell how far chance goes;
    such a time was measured once for all of them."""
    varies = is_seed_dependent(claim.metric) or claim.metric.endswith("seconds")
    return varies and estimate.covers.startswith("seeds") and not estimate.has_spread


def _estimate(case: _Case, weights_K: Array | None, level: float | None = None) -> Estimate | None:
    if case.evidence is None or weights_K is None:
        return None
    return case.evidence.contrast(weights_K, case.level if level is None else level)


def _judge_better(case: _Case) -> Verdict:
    claim = case.claim
    assert claim.better is not None
    assert claim.worse is not None
    sign = 1 if case.evidence is None else case.evidence.sign
    low, high = (claim.margin, math.inf) if sign > 0 else (-math.inf, -claim.margin)
    estimate = _estimate(case, weigh_pair(case.evidence, claim.better, claim.worse))
    return _judge_estimate(case, "difference", estimate, low, high, _describe_margin(claim, sign))


def _describe_margin(claim: ClaimConfig, sign: int) -> str:
    return f"above {claim.margin:g}" if sign > 0 else f"below {0 - claim.margin:g}"


def _judge_same(case: _Case) -> Verdict:
    claim = case.claim
    assert claim.same is not None
    estimate = _estimate(case, weigh_pair(case.evidence, *claim.same), 1 - 2 * case.error)
    rule = f"within ±{claim.margin:g}, by two one-sided tests"
    return _judge_estimate(case, "difference", estimate, -claim.margin, claim.margin, rule)


def _judge_ratio(case: _Case) -> Verdict:
    """Geometric means' ratio; the interval comes from the logarithms, seed by seed."""
    claim, evidence = case.claim, case.evidence
    assert claim.ratio is not None
    low, high = _claimed_range(claim)
    weights_K = weigh_pair(evidence, *claim.ratio)
    estimate = None
    if evidence is not None and weights_K is not None and np.nanmin(evidence.table.values_KS) > 0:
        table = ResultTable(np.log(evidence.table.values_KS), main_KQ=evidence.table.main_KQ)
        logs = estimate_contrast(table, weights_K, case.level)
        low_end, high_end = (None if end is None else math.exp(end) for end in (logs.low, logs.high))
        ratio = math.exp(logs.value)
        se = None if logs.se is None else ratio * logs.se
        estimate = Estimate(ratio, se, logs.df, low_end, high_end, logs.covers)
    return _judge_estimate(case, "ratio", estimate, low, high, _describe_range(claim))


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


def _judge_value(case: _Case) -> Verdict:
    claim, evidence = case.claim, case.evidence
    assert claim.value is not None
    indices = [] if evidence is None else list(find_named(evidence, claim.value).values())
    weights_K = weigh_mean(len(evidence.settings), indices) if evidence is not None and indices else None
    limits = _claimed_value_range(claim, evidence)
    return _judge_estimate(case, "value", _estimate(case, weights_K), *limits, _describe_range(claim))


def _judge_every(case: _Case) -> Verdict:
    """Every setting for itself: all within: supported; one wholly outside: contradicted. Shows the one that decides.

    That all are within needs no correction for their number (each has to be); that one is outside does (Bonferroni).
    """
    claim, evidence = case.claim, case.evidence
    assert claim.every is not None
    low, high = _claimed_value_range(claim, evidence)
    rule = f"each {_describe_range(claim)}"
    indices = [] if evidence is None else list(find_named(evidence, claim.every).values())
    if evidence is None or not indices:
        return _judge_estimate(case, "value", None, low, high, rule)
    judged = [_judge_one_of(case, index, len(indices), low, high, rule) for index in indices]
    order = ("contradicted", "inconclusive", "supported")
    worst = min(
        range(len(judged)),
        key=lambda k: (order.index(judged[k].word), _distance_to_limits(judged[k].estimate, low, high)),
    )
    nearest = f"the nearest to the limit of {len(indices)} settings: {evidence.settings[indices[worst]].label}"
    return replace(judged[worst], reason=judged[worst].reason or nearest)


def _judge_one_of(case: _Case, index: int, num_settings: int, low: float, high: float, rule: str) -> Verdict:
    """The verdict on one setting of several: supported at the whole level, contradicted at its share of the error."""
    assert case.evidence is not None
    weights_K = weigh_mean(len(case.evidence.settings), [index])
    judged = _judge_estimate(case, "value", _estimate(case, weights_K), low, high, rule)
    if judged.word != "contradicted":
        return judged
    return _judge_estimate(case, "value", _estimate(case, weights_K, 1 - case.error / num_settings), low, high, rule)


def _distance_to_limits(estimate: Estimate | None, low: float, high: float) -> float:
    """How far an interval's end is within the claimed range; negative outside."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return -math.inf
    return min(estimate.low - low, high - estimate.high)


def _judge_trend(case: _Case) -> Verdict:
    """The least-squares slope over the places of the axis's values, and no step that clearly goes the other way."""
    claim, evidence = case.claim, case.evidence
    axis, sign = str(claim.axis()), 1 if claim.rises_with is not None else -1
    low, high = (claim.margin, math.inf) if sign > 0 else (-math.inf, -claim.margin)
    rule = f"{_describe_margin(claim, sign)}, and no step clearly the other way"
    levels = [] if evidence is None else find_levels(evidence, axis)
    if evidence is None or len(levels) < 2:
        return _judge_estimate(case, "change per value", None, low, high, rule)
    means_LK = np.array([weigh_mean(len(evidence.settings), indices) for indices in levels])
    steps_L = np.arange(len(levels)) - (len(levels) - 1) / 2
    slope = _estimate(case, steps_L @ means_LK / (steps_L**2).sum())
    judged = _judge_estimate(case, "change per value", slope, low, high, rule)
    if case.incomplete:
        return judged
    level = 1 - case.error / (len(levels) - 1)
    steps = [evidence.contrast(after - before, level) for before, after in itertools.pairwise(means_LK)]
    turned = [index for index, step in enumerate(steps) if _is_opposite(claim, step, sign)]
    if not turned:
        return judged
    reason = f"step {turned[0] + 1} of {len(steps)} along {axis} goes the other way"
    return replace(judged, word="contradicted", reason=reason)


def _is_opposite(claim: ClaimConfig, step: Estimate, sign: int) -> bool:
    """True where a step surely goes against the trend, which one seed does not show."""
    end = step.high if sign > 0 else step.low
    if end is None or _has_no_spread(claim, step) or (is_seed_dependent(claim.metric) and step.covers == "items"):
        return False
    return sign * end < 0
