"""Numbers, units and names as text; a missing value is a dash."""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from sweeplab.records.constraints import Bound
from sweeplab.records.metrics import METRICS, grows_with_value, score_parts
from sweeplab.report.evidence.masks import Mask, find_mask, find_masks
from sweeplab.statistics.intervals import Estimate

DASH: Final = "\u2013"
_SMALLEST: Final = 1e-4  # that is written out, without a power of ten
_LARGEST: Final = 1e9  # likewise
_MOST_DECIMALS: Final = 6
_AS_GOOD_AS_NONE: Final = 1000.0
_VAGUE_NAMES: Final = ("name", "path", "method", "shape", "source", "scheme", "style")


def format_value(value: Any) -> str:
    """A configuration value as a user would type it, on one line."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return " ".join(str(value).split())


def shorten_key(key: str, keys: Sequence[str]) -> str:
    """The last part of a dotted key where it tells the key from the others, else the whole key."""
    last = key.rsplit(".", 1)[-1]
    is_unique = [other.rsplit(".", 1)[-1] for other in keys].count(last) <= 1
    return last if is_unique and last not in _VAGUE_NAMES else key


def label_metric(name: str) -> str:
    """What readers call the metric: 'held-out loss', or 'exact match on task'."""
    if name in METRICS:
        return METRICS[name].label
    task, metric = score_parts(name)
    return f"{name_score(metric)} on {task}"


def name_score(metric: str) -> str:
    return metric.removesuffix(",none").replace("_", " ")


def label_score(task: str, metric: str) -> str:
    return f"{task}, {name_score(metric)}"


def unit_of_metric(name: str) -> str:
    return METRICS[name].unit if name in METRICS else ""


def _count_decimals(value: float) -> int:
    """Places after the point that show the thousandths, and three digits of what rounds to below a hundredth."""
    size = abs(value)
    if size >= 999.95:
        return 0
    if size >= 99.9995:
        return 1
    if size >= 0.009995 or size == 0:
        return 3
    return 2 - math.floor(math.log10(max(float(f"{size:.3g}"), _SMALLEST)))


def format_number(value: float | None) -> str:
    if value is None:
        return DASH
    value += 0.0  # no minus before zero
    return f"{value:.3g}" if _is_long(value) else f"{value:,.{_count_decimals(value)}f}"


def _is_long(value: float) -> bool:
    """True for a number that is written with a power of ten."""
    return 0 < abs(value) < _SMALLEST or abs(value) >= _LARGEST


def format_plus_minus(mean: float | None, spread: float | None) -> str:
    """'0.812 ± 0.020'; without a spread '0.812'. A spread too small for the mean's places keeps one digit."""
    if mean is None or spread is None:
        return format_number(mean)
    if abs(mean) >= _LARGEST:
        return f"{format_number(mean)} ± {spread:.3g}"
    indices = _count_decimals(mean)
    rounded = f"{spread:,.{indices}f}"
    return f"{format_number(mean)} ± {rounded if spread == 0 or float(rounded.replace(',', '')) else f'{spread:.1g}'}"


def format_count(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}"


def format_share(part: float | None, whole: float | None) -> str:
    if part is None or not whole:
        return DASH
    return f"{100 * part / whole:.3g} %"


def format_memory(num_bytes: float | None) -> str:
    """Bytes in binary units, three digits."""
    if num_bytes is None:
        return DASH
    scale, unit = choose_memory_unit(num_bytes)
    return f"{num_bytes / scale:.0f} {unit}" if num_bytes / scale >= 100 else f"{num_bytes / scale:.3g} {unit}"


def choose_memory_unit(num_bytes: float) -> tuple[int, str]:
    """The largest binary unit that leaves at least one of it, once rounded to the next smaller: (bytes, name)."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if num_bytes >= 2**power - 2 ** (power - 11):
            return 2**power, unit
    return 1, "B"


def choose_time_unit(seconds: float) -> tuple[float, str]:
    """Seconds that a chart's unit has, and its name: the largest that leaves two of it, else s or ms."""
    for size, unit in ((3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= 2 * size:
            return size, unit
    return (1.0, "s") if seconds >= 1 else (1e-3, "ms")


def format_duration(seconds: float | None) -> str:
    """'8.2 s', '3 min 05 s' or '2 h 04 min'."""
    if seconds is None:
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_step_duration(seconds: float) -> str:
    """Three digits: '25.1 ms' or '2.04 s'."""
    return (
        f"{1000 * seconds:.3g} ms"
        if seconds < 0.9995
        else f"{seconds:.3g} s"
        if seconds < 59.95
        else format_duration(seconds)
    )


def format_metric(name: str, value: float | None) -> str:
    """A metric's value with its unit: '498 MiB', '45.7 ms', '0.117 nats/target'."""
    unit = unit_of_metric(name)
    if unit == "bytes":
        return format_memory(value)
    if unit == "s" and value is not None:
        return format_step_duration(value)
    if name == "num_trainable_params":
        return format_count(value)
    return f"{format_number(value)} {unit}".rstrip() if value is not None else DASH


def describe_bound(bound: Bound) -> str:
    """'trainable parameters at most 10,000'."""
    limit = f"{bound.limit:,.0f}" if float(bound.limit).is_integer() and abs(bound.limit) < 1e15 else f"{bound.limit:g}"
    if unit_of_metric(bound.metric) in ("bytes", "s"):
        limit = format_metric(bound.metric, bound.limit)
    return f"{label_metric(bound.metric)} {'at most' if bound.end == 'max' else 'at least'} {limit}"


def format_ends(name: str, low: float, high: float) -> str:
    """'[0.787, 0.903]', as fine as the coarser end is written, or as its width asks; ends may have units."""
    has_own_units = unit_of_metric(name) in ("bytes", "s")
    write = partial(format_difference, name) if has_own_units else _choose_form(low, high)
    first = "(-∞" if math.isinf(low) else f"[{write(low)}"
    return f"{first}, ∞)" if math.isinf(high) else f"{first}, {write(high)}]"


def cut_ends(value: float, low: float, high: float) -> tuple[float, float]:
    """The ends of an interval by logarithms; one that is a thousand times away is as good as none."""
    far = _AS_GOOD_AS_NONE * max(abs(value), min(abs(low), abs(high)))
    if 0 < low < abs(value) / _AS_GOOD_AS_NONE:
        low = 0.0
    return -math.inf if low < -far else low, math.inf if high > far else high


def _choose_form(low: float, high: float) -> Callable[[float], str]:
    """How the ends of an interval are written, and what lies between them."""
    if math.isinf(high - low):
        return format_number
    size, width = max(abs(low), abs(high)), high - low
    digits = 6 if width <= 0 or width >= _SMALLEST * size else math.ceil(math.log10(size / width)) + 2
    if size >= _LARGEST:
        return lambda value: f"{value:.3g}" if width >= size / 100 else f"{value:.{digits}g}"
    if 0 < size < _SMALLEST or 0 < width < _SMALLEST * size:
        return lambda value: f"{value:.{digits}g}"
    indices = max(_count_decimals(size), -math.floor(math.log10(width)) if width > 0 else 0)
    for end in (low, high):
        if end < 0 and round(end, indices) == 0:  # which side of zero it is on decides
            needed = -math.floor(math.log10(-end))
            indices = needed if needed <= _MOST_DECIMALS else indices
    return lambda value: f"{round(value, indices) + 0.0:,.{indices}f}"


def format_difference(name: str, value: float) -> str:
    """A difference, which may be negative, with the metric's unit."""
    return f"-{format_metric(name, -value)}" if value < 0 else format_metric(name, value)


def format_interval(name: str, estimate: Estimate) -> str:
    """The interval in brackets; nothing where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    ends = estimate.low, estimate.high
    return format_ends(name, *(cut_ends(estimate.value, *ends) if grows_with_value(name) else ends))


def format_mean(name: str, estimate: Estimate) -> str:
    """A mean or a difference; as fine as its interval where, as they are written, it would lie outside."""
    shown = format_difference(name, estimate.value)
    low, high = estimate.low, estimate.high
    if low is None or high is None or not low <= estimate.value <= high or unit_of_metric(name) in ("bytes", "s"):
        return shown
    number, space, unit = shown.partition(" ")
    write = _choose_form(low, high)
    if _read(write(low)) <= _read(number) <= _read(write(high)):
        return shown
    return f"{write(estimate.value)}{space}{unit}"


def _read(text: str) -> float:
    return float(text.replace(",", ""))


def format_estimate(name: str, estimate: Estimate) -> str:
    """A metric's mean with its interval: '0.845 [0.787, 0.903]'."""
    return " ".join(part for part in (format_mean(name, estimate), format_interval(name, estimate)) if part)


def count_noun(size: int, noun: str) -> str:
    return f"{size:,} {noun}" if size == 1 else f"{size:,} {noun}s"


def list_name_columns(masks: Sequence[Mask], keys: Sequence[str]) -> dict[str, Mask | str]:
    """Columns that say which setting a row is of, by title: one for all keys of a mask, and for each other key."""
    columns: dict[str, Mask | str] = {}
    for key in keys:
        mask = find_mask(masks, key)
        columns.setdefault(shorten_key(key, keys) if mask is None else mask.title, key if mask is None else mask)
    return columns


def describe_params(params: dict[str, Any]) -> str:
    """A setting on a line, such as `rank=8 lr=0.001`, or `query + value, rank=8` with toggles of one kind by those that
    are on; numbers with four digits."""
    masks = find_masks({key: {"choices": [value]} for key, value in params.items()}, list(params))
    parts: dict[str, None] = {}  # a mask stands where its first key does, once
    for key, value in params.items():
        mask = find_mask(masks, key)
        text = f"{value:.4g}" if isinstance(value, float) else format_value(value)
        parts[f"{shorten_key(key, list(params))}={text}" if mask is None else mask.name(params)] = None
    return (", " if masks else " ").join(parts) or "as configured"
