"""How far the leading setting is from its base: what training gained."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sweeplab.records.record import BaseScore
from sweeplab.report.evidence.bases import find_base_of
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import format_estimate, format_interval, format_metric, label_metric
from sweeplab.report.evidence.settings import Setting
from sweeplab.statistics.intervals import Estimate

_AWAY: Final = "away"
_ROUNDING: Final = 1e-15


def describe_lack_of_gain(evidence: Evidence, leader: Setting, bases: Sequence[BaseScore]) -> str:
    """That training gained nothing that can be told, in a sentence; empty where it gained, or no base was scored."""
    base, estimate = find_base_of(leader, bases, evidence.metric), evidence.estimate(leader)
    if base is None or estimate is None:
        return ""
    label, value = label_metric(evidence.metric), format_metric(evidence.metric, base)
    if evidence.sign * (estimate.value - base) <= 0:
        return f"No gain over the base, whose {label} is {value} without training."
    if estimate.low is None or estimate.high is None or not estimate.low <= base <= estimate.high:
        return ""
    ends = format_interval(evidence.metric, estimate)
    return f"No gain over the base can be told: its {label} is {value}, within {ends}."


def describe_gain_over_base(evidence: Evidence, leader: Setting, bases: Sequence[BaseScore]) -> str | None:
    """Such as '0.820 [0.605, 0.975] better than 0.025 without training'; None where no base was scored.

    The interval is that of the setting's mean, from the base's value on: the base has no seeds.
    """
    base, estimate = find_base_of(leader, bases, evidence.metric), evidence.estimate(leader)
    if base is None or estimate is None:
        return None
    low, high = (None if end is None else end - base for end in (estimate.low, estimate.high))
    gain = replace(estimate, value=estimate.value - base, low=low, high=high)
    words = describe_difference(evidence.metric, gain, evidence.sign)
    than = "from" if words.endswith(_AWAY) else "than"
    return f"{words} {than} {format_metric(evidence.metric, base)} without training"


def describe_difference(metric: str, difference: Estimate, sign: int) -> str:
    """'0.820 [0.605, 0.975] better' or '0.165 [-0.004, 0.334] worse': the interval is of what is said; 'away' where the
    means are equal.

    `sign` is 1 where a larger value is better, else -1.
    """
    if abs(difference.value) <= _ROUNDING:
        return f"{format_estimate(metric, replace(difference, value=0.0))} {_AWAY}"
    flip = -1 if difference.value < 0 else 1
    low, high = (None if end is None else flip * end for end in (difference.low, difference.high))
    low, high = (low, high) if flip > 0 else (high, low)
    shown = replace(difference, value=abs(difference.value), low=low, high=high)
    return f"{format_estimate(metric, shown)} {'better' if sign * flip > 0 else 'worse'}"
