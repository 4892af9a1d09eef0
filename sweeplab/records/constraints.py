"""What a study allows: by how much a trial lies beyond a bound on one of its metrics."""

from collections.abc import Iterator, Mapping
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


def measure_excess(record: TrialRecord, bound: Bound) -> float | None:
    """By how much a trial lies beyond `bound`, in the metric's unit; at most 0 where it keeps it; None: unmeasured."""
    value = metric_value(record, bound.metric)
    if value is None:
        return None
    return value - bound.limit if bound.end == "max" else bound.limit - value
