"""The varied key as an x axis: its scale, the position of each value, and the ticks."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.charts.ticks import Scale, Tick, choose_scale, list_number_ticks
from sweeplab.report.evidence.formatting import DASH, format_value, shorten_key
from sweeplab.report.evidence.settings import list_axis_values, list_varied_keys

_CROWDED: Final = 0.8  # of the trials at one value: a chart against it has nearly all dots in one place


@dataclass(frozen=True)
class Axis:
    """A category's position is its index; a number's position is itself."""

    key: str | None  # None: nothing was varied
    name: str
    scale: Scale
    ticks: list[Tick]

    @property
    def title(self) -> str:
        return f"{self.name} (log scale)" if self.scale == "log" else self.name

    def find_position(self, params: dict[str, Any]) -> float:
        """Where a trial with `params` is drawn."""
        if self.key is None:
            return 0.0
        if self.scale != "category":
            return float(params[self.key])
        return next(tick.position for tick in self.ticks if tick.text == self.text_of(params))

    def has(self, params: dict[str, Any]) -> bool:
        """True where `params` have a position: any number that the scale can show, or a category of the trials'."""
        if self.key is None:
            return True
        if self.scale == "category":
            return self.text_of(params) in [tick.text for tick in self.ticks]
        return self.key in params and choose_scale([params[self.key]], True) in (self.scale, "log")

    def text_of(self, params: dict[str, Any]) -> str:
        return format_value(params[self.key]) if self.key in params else DASH


def choose_axis(facts: StudyFacts, records: list[TrialRecord]) -> Axis:
    """The first varied key with several numbers as values, else the first with several values, else the first.

    A key of which nearly all trials have the same value comes after all others, the more of them the later.
    """
    keys = list_varied_keys(facts, records)
    if not keys:
        return Axis(None, "setting", "category", [Tick(0.0, "as configured")])
    values = {key: list_axis_values(facts, records, key) for key in keys}
    varied = [key for key in keys if len(values[key]) > 1]
    varied.sort(key=lambda key: choose_scale(values[key], False) == "category")
    key = min(varied, key=lambda key: max(_CROWDED, _find_largest_share(records, key))) if varied else keys[0]
    absent = any(key not in record.params for record in records)
    scale = "category" if absent else choose_scale(values[key], bool(facts.space.get(key, {}).get("log")))
    name = shorten_key(key, keys)
    if scale == "category":
        texts = [format_value(value) for value in values[key]] + ([DASH] if absent else [])
        return Axis(key, name, scale, [Tick(float(index), text) for index, text in enumerate(texts)])
    return Axis(key, name, scale, list_number_ticks(values[key], scale))


def _find_largest_share(records: list[TrialRecord], key: str) -> float:
    """Of the trials: those that have the key's most common value, or none."""
    counts = Counter(format_value(one.params[key]) if key in one.params else DASH for one in records)
    return max(counts.values()) / len(records)
