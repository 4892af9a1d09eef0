"""The varied key as an x axis: its scale, the position of each value, and the ticks."""

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.stored import is_number
from sweeplab.report.charts.ticks import Scale, Tick, choose_scale, list_number_ticks
from sweeplab.report.evidence.formatting import DASH, format_value, shorten_key
from sweeplab.report.evidence.settings import first_objective, list_axis_values, list_varied_keys, read_number

_CROWDED: Final = 0.8  # of the trials at one value: a chart against it has nearly all dots in one place
_LITTLE: Final = 0.1  # of the largest share: a key of numbers that moves less than that gives way to one of names
_MOST_LEVELS: Final = 6  # more values are put into as many groups, since single ones would explain every trial


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
    """The varied key that moves the objective most, numbers before names unless they move it little.

    A key of which nearly all trials have the same value comes after all others, the more of them the later. Without a
    finished trial the first key with several numbers, else the first with several values, else the first.
    """
    keys = list_varied_keys(facts, records)
    if not keys:
        return Axis(None, "setting", "category", [Tick(0.0, "as configured")])
    values = {key: list_axis_values(facts, records, key) for key in keys}
    varied = [key for key in keys if len(values[key]) > 1]
    shares = {key: measure_share(facts, records, key) for key in varied}
    least = _LITTLE * max(shares.values(), default=0.0)
    varied.sort(key=lambda key: (choose_scale(values[key], False) == "category" or shares[key] < least, -shares[key]))
    key = min(varied, key=lambda key: max(_CROWDED, _find_largest_share(records, key))) if varied else keys[0]
    absent = any(key not in record.params for record in records)
    scale = "category" if absent else choose_scale(values[key], bool(facts.space.get(key, {}).get("log")))
    name = shorten_key(key, keys)
    if scale == "category":
        texts = [format_value(value) for value in values[key]] + ([DASH] if absent else [])
        return Axis(key, name, scale, [Tick(float(index), text) for index, text in enumerate(texts)])
    return Axis(key, name, scale, list_number_ticks(values[key], scale))


def measure_share(facts: StudyFacts, records: list[TrialRecord], key: str) -> float:
    """Of the objective's variance over finished trials: what the values of one key explain, whatever the others are.

    Adjusted for the number of values, from 0 to 1; 0 where it cannot be told.
    """
    metric = first_objective(facts)[0]
    known = [
        (one.params.get(key), value)
        for one in records
        if one.status is Status.FINISHED and (value := read_number(one, metric)) is not None
    ]
    groups: dict[str, list[float]] = {}
    for text, value in zip(_group_values([of for of, _ in known]), (value for _, value in known), strict=True):
        groups.setdefault(text, []).append(value)
    num_free = len(known) - len(groups)
    if len(groups) < 2 or num_free < 1:
        return 0.0
    total = statistics.variance([value for _, value in known])
    within = sum(statistics.pvariance(values) * len(values) for values in groups.values()) / num_free
    return max(0.0, 1 - within / total) if total > 0 else 0.0


def _group_values(values: list[Any]) -> list[str]:
    """The group of each value: the value itself, or of many numbers one of `_MOST_LEVELS` by size."""
    texts = [format_value(value) for value in values]
    if len(set(texts)) <= _MOST_LEVELS or not all(map(is_number, values)):
        return texts
    order = sorted({*values})
    return [str(order.index(value) * _MOST_LEVELS // len(order)) for value in values]


def _find_largest_share(records: list[TrialRecord], key: str) -> float:
    """Of the trials: those that have the key's most common value, or none."""
    counts = Counter(format_value(one.params[key]) if key in one.params else DASH for one in records)
    return max(counts.values()) / len(records)
