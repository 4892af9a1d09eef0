"""Results by item: reads `items.jsonl` of the trials, and writes and reads the short form `items.json` of a report."""

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import error as StructError
from struct import pack, unpack
from typing import Any, Final, NamedTuple

from sweeplab.records.store import StoreError, strict_json, trial_files

_LOSS: Final = "heldout_loss_nats_per_token"
# a log-likelihood, and the number of words or bytes that it is of
_PAIR: Final = re.compile(r"\((?:np\.float\d+\()?(-?[\d.]+(?:e[+-]?\d+)?)\)?, (\d{1,9})\)")
_LOG_RATIOS: Final = ("perplexity", "word_perplexity", "byte_perplexity")  # exp(-log-likelihoods / words or bytes)
_MOST_COUNTED: Final = 2**31
_BITS: Final = "bits_per_byte"  # -log-likelihoods / bytes / ln 2


class ItemTable(NamedTuple):
    """One metric of one task by item, so that differences between trials can be paired by item.

    The score is the mean of the values. With `counts` it is their sum divided by the sum of the counts, as a loss per
    token is. With `is_log` that is the logarithm of the score, as of a perplexity.
    """

    items: list[int]  # the task's item numbers, in its order
    values: dict[int, list[float]]  # by trial number, a value for each of `items`
    counts: list[int] | None = None  # tokens, words or bytes of each item; None: the mean over items
    is_log: bool = False
    clusters: list[int] | None = None  # the cluster of each item, which are not independent within it; None: all are


@dataclass
class _Column:
    """One metric of one trial by item."""

    items: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    clusters: list[int | None] = field(default_factory=list)
    is_log: bool = False

    def add(self, item: int, value: float, count: int = 1, cluster: int | None = None) -> None:
        self.items.append(item)
        self.values.append(value)
        self.counts.append(count)
        self.clusters.append(cluster)

    @property
    def is_mean(self) -> bool:
        """True where the score is the mean of the values."""
        return not self.is_log and set(self.counts) <= {1}

    def begin_table(self) -> ItemTable:
        """A table of this trial's items, without any values."""
        counts = None if set(self.counts) <= {1} else self.counts
        return ItemTable(self.items, {}, counts, self.is_log, self._number_clusters())

    def _number_clusters(self) -> list[int] | None:
        """An item of no cluster is one by itself. Of a group, a cluster lies within one task."""
        if not any(cluster is not None for cluster in self.clusters):
            return None
        keys = [("item", place) if one is None else ("cluster", one) for place, one in enumerate(self.clusters)]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return [numbers[key] for key in keys]


class _Group(NamedTuple):
    """A metric of a group that is the mean over all items of its tasks, by the name it has there and in the tasks."""

    name: str
    parts: list[str]


Items = dict[str, ItemTable]  # by metric, `scores.<task>.<metric>` or the held-out loss


def make_loss_row(sums: Sequence[float], counts: Sequence[int]) -> dict[str, Any]:
    """The row of `items.jsonl` for the held-out loss: of each example the nats, and the number of targets."""
    return {"metric": _LOSS, "sums": list(sums), "counts": list(counts)}


def read_trial_items(path: Path) -> dict[str, dict[int, float]]:
    """The results of a trial by metric and item, of scores that are their means; without those of groups.

    Raises `StoreError` for a damaged file.
    """
    columns, _ = _read_rows(path)
    return {name: dict(zip(one.items, one.values, strict=True)) for name, one in columns.items() if one.is_mean}


def _read_rows(path: Path) -> tuple[dict[str, _Column], list[_Group]]:
    """The results by metric, and the groups whose scores are means over them. Raises `StoreError`."""
    columns: dict[str, _Column] = {}
    groups: list[_Group] = []
    try:
        *lines, last = path.read_text(encoding="utf-8").split("\n")  # not splitlines: a response may hold U+2028
        for line in [*lines, last] if last else lines:
            _read_row(strict_json(line), columns, groups)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error!r}; remove it to report without its items") from error
    return columns, groups


def _read_row(row: dict[str, Any], columns: dict[str, _Column], groups: list[_Group]) -> None:
    """Adds what a line of `items.jsonl` says."""
    if "sums" in row:
        sums, counts = [float(value) for value in row["sums"]], _check_counts(row["counts"])
        if len(sums) != len(counts):
            raise ValueError(f"{len(sums)} sums and {len(counts)} counts")
        columns[row["metric"]] = _Column(list(range(len(sums))), sums, counts, [None] * len(sums))
        return
    suffix = "" if row["filter"] == "none" else f"@{row['filter']}"
    cluster = None if row.get("cluster") is None else int(row["cluster"])
    if "group" in row:
        parts = [f"scores.{task}.{row['metric']}{suffix}" for task in row["tasks"]]
        groups.append(_Group(f"scores.{row['group']}.{row['metric']}{suffix}", parts))
        return
    for metric, value in row["metrics"].items():
        if isinstance(value, int | float):
            name = f"scores.{row['task']}.{metric}{suffix}"
            columns.setdefault(name, _Column()).add(int(row["item"]), float(value), cluster=cluster)
    for metric, value in row.get("inputs", {}).items():
        ratio = _read_ratio(metric, value)
        if ratio is not None:
            name, is_log = f"scores.{row['task']}.{metric}{suffix}", metric != _BITS
            columns.setdefault(name, _Column(is_log=is_log)).add(int(row["item"]), *ratio, cluster)


def _check_counts(counts: list[int]) -> list[int]:
    """The counts of tokens, words or bytes. Raises `ValueError` for what none of these can be."""
    if not all(0 <= count < _MOST_COUNTED for count in counts) or not any(counts):
        raise ValueError("counts are from 0 to 2,147,483,647, and not all 0")
    return [int(count) for count in counts]


def _read_ratio(metric: str, value: Any) -> tuple[float, int] | None:
    """What an item adds to both sums of a score that is a ratio of sums, or the exponential of one; None of others.

    lm-eval takes them from log-likelihoods, or from pairs of these and the words or bytes that they are of.
    """
    if metric not in (*_LOG_RATIOS, _BITS):
        return None
    pair = _PAIR.fullmatch(value) if isinstance(value, str) else None
    if pair is not None:
        return -float(pair[1]) / (math.log(2) if metric == _BITS else 1.0), int(pair[2])
    return (-float(value), 1) if isinstance(value, int | float) and metric != _BITS else None


def _read_with_groups(path: Path) -> dict[str, _Column]:
    """The results of a trial; the items of a group are those of its tasks, one after another, numbered from 0."""
    columns, groups = _read_rows(path)
    joined: dict[str, _Column] = {}
    for group in groups:
        if all(part in columns and columns[part].is_mean for part in group.parts):
            joined[group.name] = _join_columns([columns[part] for part in group.parts])
    return columns | joined


def _join_columns(parts: Sequence[_Column]) -> _Column:
    """Items of several tasks as those of one; a cluster lies within one task."""
    whole = _Column()
    for part in parts:
        first = len(whole.items)
        for value, cluster in zip(part.values, part.clusters, strict=True):
            whole.add(len(whole.items), value, cluster=None if cluster is None else first + cluster)
    return whole


def read_items(study_folder: Path) -> Items:
    """The results of all trials by metric, from their `items.jsonl`. Raises `StoreError` for a damaged file.

    A trial with other items than the first one is left out, since its results cannot be paired by item.
    """
    tables: Items = {}
    for path in trial_files(study_folder, "items.jsonl"):
        for name, column in _read_with_groups(path).items():
            table = tables.setdefault(name, column.begin_table())
            if column.begin_table() == table._replace(values={}):
                table.values[int(path.parent.name)] = column.values
    return tables


def items_to_dict(tables: Items) -> dict[str, Any]:
    """A short form for JSON: items 0, 1, 2, ... as their count, other whole numbers as a text, results that are all 0
    or 1 as a text of digits, and sums in 32 bits in base64."""
    return {
        name: {
            "items": len(table.items) if table.items == list(range(len(table.items))) else _join(table.items),
            "trials": {str(trial): _shorten(table, table.values[trial]) for trial in sorted(table.values)},
        }
        | ({} if table.counts is None else {"counts": _join(table.counts)})
        | ({"is_log": True} if table.is_log else {})
        | ({} if table.clusters is None else {"clusters": _join(table.clusters)})
        for name, table in sorted(tables.items())
    }


def _join(numbers: Sequence[int]) -> str:
    """On one line, where JSON with an indent would have a line for each."""
    return " ".join(map(str, numbers))


def _split(numbers: str | list[int] | None) -> list[int] | None:
    return [int(one) for one in numbers.split()] if isinstance(numbers, str) else numbers


def _shorten(table: ItemTable, values: list[float]) -> str | list[float]:
    if table.counts is None and not table.is_log:
        return "".join(str(int(value)) for value in values) if set(values) <= {0.0, 1.0} else values
    try:
        packed = pack(f"<{len(values)}f", *values)
    except OverflowError:
        return values
    return base64.b64encode(packed).decode() if list(unpack(f"<{len(values)}f", packed)) == values else values


def _lengthen(values: Any, is_packed: bool) -> list[float]:
    if not is_packed or not isinstance(values, str):
        return [float(value) for value in values]
    packed = base64.b64decode(values, validate=True)
    return list(unpack(f"<{len(packed) // 4}f", packed))


def items_from_dict(values: dict[str, Any]) -> Items:
    """The items that `items_to_dict` shortened. Raises `ValueError` for malformed values."""
    try:
        return {name: _read_table(table) for name, table in values.items()}
    except (TypeError, KeyError, AttributeError, StructError) as error:
        raise ValueError(f"items are malformed: {error!r}") from error


def _read_table(table: dict[str, Any]) -> ItemTable:
    counts, clusters, is_log = _split(table.get("counts")), _split(table.get("clusters")), bool(table.get("is_log"))
    items = list(range(table["items"])) if isinstance(table["items"], int) else _split(table["items"]) or []
    values = {
        int(trial): _lengthen(results, counts is not None or is_log) for trial, results in table["trials"].items()
    }
    if clusters is not None and set(clusters) != set(range(len(set(clusters)))):
        raise ValueError("items are malformed: their clusters must be numbered from 0")
    if any(len(one) != len(items) for one in (*values.values(), counts, clusters) if one is not None):
        raise ValueError(f"items are malformed: {len(items)} items, and a trial, counts or clusters of another number")
    return ItemTable(items, values, None if counts is None else _check_counts(counts), is_log, clusters)
