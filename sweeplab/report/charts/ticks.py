"""Scales and ticks: linear, logarithmic, or one step a category."""

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from sweeplab.records.stored import is_number

_FEW_DECADES: Final = 10**2.5  # of a log scale: more have a tick at each decade only
_MAX_VALUE_TICKS: Final = 12  # more distinct values get round ticks
Scale = Literal["linear", "log", "category"]


class Tick(NamedTuple):
    position: float
    text: str


def choose_scale(values: Sequence[Any], log: bool) -> Scale:
    """Log where the space says so, or where the ratios of the values are more even than their differences."""
    if not values or not all(map(is_number, values)):
        return "category"
    if min(values) <= 0:
        return "linear"
    if log:
        return "log"
    if len(values) < 3:
        return "linear"
    return (
        "log"
        if _measure_unevenness([math.log(value) for value in values]) < _measure_unevenness(values) - 1e-9
        else "linear"
    )


def _measure_unevenness(values: Sequence[float]) -> float:
    """Standard deviation of the gaps over their mean; 0 for equal gaps."""
    gaps = [after - before for before, after in itertools.pairwise(values)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


def list_number_ticks(values: Sequence[float], scale: Scale, most: int = _MAX_VALUE_TICKS) -> list[Tick]:
    """The values themselves where they are at most `most`, else round numbers."""
    if len(values) <= most:
        return [Tick(float(value), f"{value:.4g}" if isinstance(value, float) else str(value)) for value in values]
    if scale == "linear":
        return list_round_ticks(min(values), max(values))
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    parts = (1, 2, 5) if max(values) / min(values) <= _FEW_DECADES else (1,)
    marks = [part * 10.0**power for power in range(low, high + 1) for part in parts]
    inside = [mark for mark in marks if min(values) <= mark <= max(values)]
    return [Tick(mark, f"{mark:g}") for mark in inside or [min(values), max(values)]]


def list_round_ticks(low: float, high: float, wanted: int = 5) -> list[Tick]:
    """About `wanted` ticks at 1, 2 or 5 times a power of ten, inside [low, high]; one tick where both are equal."""
    if not high > low:
        return [Tick(low, f"{low:g}")]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((part * power for part in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / raw)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    indices = max(0, -math.floor(math.log10(step) + 1e-9))
    return [Tick(index * step, f"{index * step:,.{indices}f}") for index in range(first, last + 1)]
