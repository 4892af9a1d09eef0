"""What lm-eval found, as scores by task and metric, and as one row per item."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sweeplab.evaluation.sampling import number_clusters
from sweeplab.records.record import Score

_MOST_LETTERS: Final = 2000  # of a prompt that is kept: its end, where the question stands

IsMean = Callable[[str, str], bool]  # of a task and its metric: whether the score is the mean of the items' values


class Evaluation(NamedTuple):
    """Scores by task and metric, and one row per task and item with what the model answered."""

    scores: dict[str, dict[str, Score]]
    items: list[dict[str, Any]]
    notes: tuple[str, ...] = ()  # which faster way of computing was not taken, and why
    prompts: tuple[str | None, ...] = ()  # of the items of tasks, in their order: what the model was given
    unmeasured: frozenset[str] = frozenset()  # `scores.<task>.<metric>` whose value is no finite number


def read_evaluation(results: dict[str, Any], loaded: dict[str, Any], clusters: Mapping[str, str]) -> Evaluation:
    """What `evaluate` of lm-eval returned for tasks that `load_tasks` loaded; `clusters` is `evaluation.clusters`."""
    scores = _read_scores(results["results"], results["n-samples"])
    for task, samples in results["samples"].items():  # the code of a task may leave a metric out for some items
        counts = Counter((name, one["filter"]) for one in samples for name in one["metrics"])
        for (metric, filter_name), count in counts.items():
            name = metric if filter_name == "none" else f"{metric}@{filter_name}"
            if name in scores.get(task, {}):
                scores[task][name].num_items = count
    is_mean = _find_means(loaded["tasks"])
    rows = _list_item_rows(results["samples"], is_mean, clusters)
    groups = [row for group in loaded["groups"].values() for row in _list_group_rows(group, scores, is_mean)]
    named = {f"scores.{task}.{name}" for task, name in _list_measured(results["results"])}
    known = {f"scores.{task}.{name}" for task, metrics in scores.items() for name in metrics}
    prompts = tuple(_read_prompt(sample) for samples in results["samples"].values() for sample in samples)
    return Evaluation(scores, rows + groups, prompts=prompts, unmeasured=frozenset(named - known))


def _read_prompt(sample: dict[str, Any]) -> str | None:
    """The end of the text that stands before an item's first answer; None where lm-eval tells none."""
    arguments = sample.get("arguments") or [()]
    first = arguments[0][0] if arguments[0] else None
    return first[-_MOST_LETTERS:] if isinstance(first, str) else None


def _name_metric(key: str) -> str | None:
    """`exact_match` for lm-eval's `exact_match,none`, with the filter's name where it has one; None for other keys."""
    metric, comma, chosen = key.partition(",")
    if not comma or metric.endswith("_stderr"):
        return None
    return metric if chosen == "none" else f"{metric}@{chosen}"


def _list_measured(results: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """(task, metric) of all that was measured, also of what is no finite number."""
    for task, values in results.items():
        for key in values:
            name = _name_metric(key)
            if name is not None:
                yield task, name


def _read_scores(results: dict[str, Any], num_items: dict[str, dict[str, int]]) -> dict[str, dict[str, Score]]:
    """Every metric of every task and group that is a number; a standard error that lm-eval could not give is None.

    `num_items` is of tasks. A group counts the items of the tasks that have the metric.
    """
    scores: dict[str, dict[str, Score]] = {}
    for task, values in results.items():
        for key, value in values.items():
            name = _name_metric(key)
            if name is None or not _is_finite_number(value):
                continue
            metric, _, chosen = key.partition(",")
            stderr = values.get(f"{metric}_stderr,{chosen}")
            known = float(stderr) if _is_finite_number(stderr) else None
            count = num_items[task]["effective"] if task in num_items else values["sample_count"][key]
            scores.setdefault(task, {})[name] = Score(float(value), known, count)
    return scores


def _find_means(tasks: dict[str, Any]) -> IsMean:
    from lm_eval.api.metrics import mean

    def is_mean(task: str, metric: str) -> bool:
        """lm-eval takes the mean, too, of what a task's code returns without a way to aggregate it."""
        return tasks[task].aggregation().get(metric, mean) is mean

    return is_mean


def _list_item_rows(
    samples: dict[str, list[dict[str, Any]]],
    is_mean: IsMean = lambda task, metric: True,
    clusters: Mapping[str, str] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Task, item, its cluster, target, filtered responses and the item's own metrics, in lm-eval's order.

    What a score that is no mean is computed from, such as the log-likelihoods of a perplexity, is the row's `inputs`:
    no item has such a score.
    """
    rows = []
    for task, found in samples.items():
        numbers = number_clusters(found, clusters[task]) if task in clusters else [None] * len(found)
        for sample, number in zip(found, numbers, strict=True):
            values = {name: _to_plain_number(sample[name]) for name in sample["metrics"]}
            row = {
                "task": task,
                "item": sample["doc_id"],
                **({} if number is None else {"cluster": number}),
                "filter": sample["filter"],
                "target": str(sample["target"]),
                "responses": [str(response) for response in sample["filtered_resps"]],
                "metrics": {name: value for name, value in values.items() if is_mean(task, name)},
            }
            inputs = {name: value for name, value in values.items() if name not in row["metrics"]}
            rows.append(row | {"inputs": inputs} if inputs else row)
    return rows


def _list_group_rows(group: Any, scores: dict[str, dict[str, Score]], is_mean: IsMean) -> list[dict[str, Any]]:
    """Of each of a group's scores that is the mean over all its tasks' items: which tasks these are."""
    tasks = [task.task_name for task in group.get_all_tasks()]
    rows: dict[str, dict[str, Any] | None] = {}  # by name; lm-eval takes the last of two ways to aggregate it
    for one in group.aggregate_metric_list or ():
        for name, score in scores.get(group.name, {}).items():
            chosen = "none" if name == one.metric else name.removeprefix(f"{one.metric}@")
            if chosen == name or (one.filter_list is not None and chosen not in one.filter_list):
                continue  # of another metric
            having = [task for task in tasks if name in scores.get(task, {})]
            has_all = sum(scores[task][name].num_items for task in having) == score.num_items
            is_own = one.weight_by_size and has_all and all(is_mean(task, one.metric) for task in having)
            row = {"group": group.name, "metric": one.metric, "filter": chosen, "tasks": having}
            rows[name] = row if is_own else None
    return [row for row in rows.values() if row is not None]


def _is_finite_number(value: Any) -> bool:
    """True for Python's and NumPy's numbers, but for those that JSON has no word for."""
    return hasattr(value, "__float__") and math.isfinite(value)


def _to_plain_number(value: Any) -> float | str:
    """A number as float, a metric's compound intermediate result as its text."""
    return float(value) if _is_finite_number(value) else str(value)
