"""The varied key as an x axis: its scale, where each value stands, and the ticks."""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.typed import is_number
from sweeplab.report.evidence.settings import axis_values, varied_keys
from sweeplab.report.evidence.wording import DASH, short_key, value_text

FEW_DECADES: Final = 10**2.5  # of a log scale: more have a tick at each decade only
CROWDED: Final = 0.8  # of the trials at one value: a chart against it has nearly all dots in one place
MAX_VALUE_TICKS: Final = 12  # more distinct values get round ticks

Scale = Literal["linear", "log", "category"]


class Tick(NamedTuple):
    place: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A category's place is its index; a number's place is itself."""

    key: str | None  # None: nothing was varied
    name: str
    scale: Scale
    ticks: list[Tick]

    @property
    def title(self) -> str:
        return f"{self.name} (log scale)" if self.scale == "log" else self.name

    def place(self, params: dict[str, Any]) -> float:
        """Where a trial with `params` stands."""
        if self.key is None:
            return 0.0
        if self.scale != "category":
            return float(params[self.key])
        return next(tick.place for tick in self.ticks if tick.text == self.text_of(params))

    def has(self, params: dict[str, Any]) -> bool:
        """True where `params` have a place: any number that the scale can show, or a category of the trials'."""
        if self.key is None:
            return True
        if self.scale == "category":
            return self.text_of(params) in [tick.text for tick in self.ticks]
        return self.key in params and scale_of([params[self.key]], True) in (self.scale, "log")

    def text_of(self, params: dict[str, Any]) -> str:
        return value_text(params[self.key]) if self.key in params else DASH


def main_axis(facts: StudyFacts, records: list[TrialRecord]) -> Axis:
    """The first varied key with several numbers as values, else the first with several values, else the first.

    A key of which nearly all trials have the same value comes after all others, the more of them the later.
    """
    keys = varied_keys(facts, records)
    if not keys:
        return Axis(None, "setting", "category", [Tick(0.0, "as configured")])
    values = {key: axis_values(facts, records, key) for key in keys}
    varied = [key for key in keys if len(values[key]) > 1]
    varied.sort(key=lambda key: scale_of(values[key], False) == "category")
    key = min(varied, key=lambda key: max(CROWDED, largest_share(records, key))) if varied else keys[0]
    absent = any(key not in record.params for record in records)
    scale = "category" if absent else scale_of(values[key], bool(facts.space.get(key, {}).get("log")))
    name = short_key(key, keys)
    if scale == "category":
        texts = [value_text(value) for value in values[key]] + ([DASH] if absent else [])
        return Axis(key, name, scale, [Tick(float(place), text) for place, text in enumerate(texts)])
    return Axis(key, name, scale, number_ticks(values[key], scale))


def largest_share(records: list[TrialRecord], key: str) -> float:
    """Of the trials: those that have the key's most common value, or none."""
    counts = Counter(value_text(one.params[key]) if key in one.params else DASH for one in records)
    return max(counts.values()) / len(records)


def scale_of(values: Sequence[Any], log: bool) -> Scale:
    """Log where the space says so, or where the ratios of the values are more even than their differences."""
    if not values or not all(map(is_number, values)):
        return "category"
    if min(values) <= 0:
        return "linear"
    if log:
        return "log"
    if len(values) < 3:
        return "linear"
    return "log" if unevenness([math.log(value) for value in values]) < unevenness(values) - 1e-9 else "linear"


def unevenness(values: Sequence[float]) -> float:
    """Standard deviation of the gaps over their mean; 0 for equal gaps."""
    gaps = [after - before for before, after in itertools.pairwise(values)]
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


def number_ticks(values: Sequence[float], scale: Scale, most: int = MAX_VALUE_TICKS) -> list[Tick]:
    """The values themselves where they are at most `most`, else round numbers."""
    if len(values) <= most:
        return [Tick(float(value), f"{value:.4g}" if isinstance(value, float) else str(value)) for value in values]
    if scale == "linear":
        return round_ticks(min(values), max(values))
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    parts = (1, 2, 5) if max(values) / min(values) <= FEW_DECADES else (1,)
    marks = [part * 10.0**power for power in range(low, high + 1) for part in parts]
    inside = [mark for mark in marks if min(values) <= mark <= max(values)]
    return [Tick(mark, f"{mark:g}") for mark in inside or [min(values), max(values)]]


def round_ticks(low: float, high: float, wanted: int = 5) -> list[Tick]:
    """About `wanted` ticks at 1, 2 or 5 times a power of ten, inside [low, high]; one tick where both are equal."""
    if not high > low:
        return [Tick(low, f"{low:g}")]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((part * power for part in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / raw)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return [Tick(index * step, f"{index * step:,.{places}f}") for index in range(first, last + 1)]
