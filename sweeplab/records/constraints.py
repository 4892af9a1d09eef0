"""What a study allows: by how much a trial lies beyond a bound on one of its metrics."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sweeplab.records.record import TrialRecord, metric_value


class Bound(NamedTuple):
    """One end of what is allowed of a metric."""

    metric: str
    end: str  # max or min
    limit: float


def list_bounds(constraints: Mapping[str, Mapping[str, float]]) -> Iterator[Bound]:
    """The bounds of `{metric: {max: ..., min: ...}}`."""
    for metric, ends in constraints.items():
        for end, limit in ends.items():
            yield Bound(metric, end, limit)


def combine_constraints(several: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """What all of them allow: the tightest bounds of any."""
    combined: dict[str, dict[str, float]] = {}
    for bound in (bound for constraints in several for bound in list_bounds(constraints)):
        ends = combined.setdefault(bound.metric, {})
        tighter = min if bound.end == "max" else max
        ends[bound.end] = tighter(ends.get(bound.end, bound.limit), bound.limit)
    return combined


def measure_excess(record: TrialRecord, bound: Bound) -> float | None:
    """By how much a trial lies beyond `bound`, in the metric's unit; at most 0 where it keeps it; None: unmeasured."""
    value = metric_value(record, bound.metric)
    if value is None:
        return None
    return value - bound.limit if bound.end == "max" else bound.limit - value
