"""Results by item: reads `items.jsonl` of the trials, and writes and reads the short form `items.json` of a report."""

from pathlib import Path
from typing import Any, NamedTuple

from sweeplab.records.store import StoreError, strict_json, trial_files


class ItemTable(NamedTuple):
    """One metric of one task by item, so that differences between trials can be paired by item."""

    items: list[int]  # the task's item numbers, in its order
    values: dict[int, list[float]]  # by trial number, a value for each of `items`


class _Group(NamedTuple):
    """A metric of a group that is the mean over all items of its tasks, by the name it has there and in the tasks."""

    name: str
    parts: list[str]


Items = dict[str, ItemTable]  # by metric, `scores.<task>.<metric>`


def read_trial_items(path: Path) -> dict[str, dict[int, float]]:
    """The results of a trial by metric and item, without those of groups. Raises `StoreError` for a damaged file."""
    return _read_rows(path)[0]


def _read_rows(path: Path) -> tuple[dict[str, dict[int, float]], list[_Group]]:
    """The results by metric and item, and the groups whose scores are means over them. Raises `StoreError`."""
    values: dict[str, dict[int, float]] = {}
    groups = []
    try:
        *lines, last = path.read_text(encoding="utf-8").split("\n")  # not splitlines: a response may hold U+2028
        for line in [*lines, last] if last else lines:
            row = strict_json(line)
            suffix = "" if row["filter"] == "none" else f"@{row['filter']}"
            if "group" in row:
                parts = [f"scores.{task}.{row['metric']}{suffix}" for task in row["tasks"]]
                groups.append(_Group(f"scores.{row['group']}.{row['metric']}{suffix}", parts))
                continue
            for metric, value in row["metrics"].items():
                if isinstance(value, int | float):
                    name = f"scores.{row['task']}.{metric}{suffix}"
                    values.setdefault(name, {})[int(row["item"])] = float(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error!r}; remove it to report without its items") from error
    return values, groups


def _read_with_groups(path: Path) -> dict[str, dict[int, float]]:
    """The results of a trial; the items of a group are those of its tasks, one after another, numbered from 0."""
    values, groups = _read_rows(path)
    joined = {
        group.name: dict(enumerate(value for part in group.parts for value in values[part].values()))
        for group in groups
        if all(part in values for part in group.parts)
    }
    return values | joined


def read_items(study_folder: Path) -> Items:
    """The results of all trials by metric, from their `items.jsonl`. Raises `StoreError` for a damaged file.

    A trial with other items than the first one is left out, since its results cannot be paired by item.
    """
    tables: Items = {}
    for path in trial_files(study_folder, "items.jsonl"):
        for name, by_item in _read_with_groups(path).items():
            table = tables.setdefault(name, ItemTable(list(by_item), {}))
            if table.items == list(by_item):
                table.values[int(path.parent.name)] = list(by_item.values())
    return tables


def items_to_dict(tables: Items) -> dict[str, Any]:
    """A short form for JSON: items 0, 1, 2, ... as their count, results that are all 0 or 1 as a text of digits."""

    def shorten(values: list[float]) -> str | list[float]:
        return "".join(str(int(value)) for value in values) if set(values) <= {0.0, 1.0} else values

    return {
        name: {
            "items": len(table.items) if table.items == list(range(len(table.items))) else table.items,
            "trials": {str(trial): shorten(table.values[trial]) for trial in sorted(table.values)},
        }
        for name, table in sorted(tables.items())
    }


def items_from_dict(values: dict[str, Any]) -> Items:
    """The items that `items_to_dict` shortened. Raises `ValueError` for malformed values."""
    try:
        return {
            name: ItemTable(
                list(range(table["items"])) if isinstance(table["items"], int) else table["items"],
                {int(trial): [float(value) for value in results] for trial, results in table["trials"].items()},
            )
            for name, table in values.items()
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"items are malformed: {error!r}") from error
