"""Which items of a task are scored, all or a sample of `evaluation.limit`, and which of them are of one cluster."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.runtime.errors import refuse


def draw_sample(num_items: int, settings: EvaluationConfig) -> list[int]:
    """The indices of the items that are scored, in the file's order.

    `evaluation.limit_seed` and the number of items alone decide, never a trial's seed, so that all trials of a study
    are scored on the same items, and two tasks on one file too. A smaller sample is a part of every larger one.
    Without a seed they are the file's first items, as with lm-eval's `--limit`.
    """
    order: Sequence[int] = range(num_items)
    if settings.limit is None or settings.limit >= num_items:
        return list(order)
    if settings.limit_seed is not None:
        order = random.Random(settings.limit_seed).sample(order, num_items)
    return sorted(order[: settings.limit])


def choose_samples(loaded: dict[str, Any], settings: EvaluationConfig) -> dict[str, list[int]] | None:
    """The sample of every task that has more items than the limit, as lm-eval's `samples`; None without a limit."""
    if settings.limit is None:
        return None
    sizes = {name: len(task.eval_docs) for name, task in loaded["tasks"].items()}
    return {name: draw_sample(size, settings) for name, size in sizes.items() if size > settings.limit}


def refuse_unknown_clusters(loaded: dict[str, Any], clusters: Mapping[str, str]) -> None:
    """Raises `ConfigError` for a task that is not scored, and for a field that some of its items lack."""
    for task, field in clusters.items():
        tasks = loaded["tasks"]
        if task not in tasks:
            rule = f"must name tasks that are scored ({', '.join(tasks)})"
            raise refuse("evaluation.clusters", rule, task, "drop it, or name the task within the group")
        lacking = next((one.doc for one in tasks[task].instances if field not in one.doc), None)
        if lacking is not None:
            rule = f"must name a field that every item of {task} has"
            raise refuse("evaluation.clusters", rule, field, f"choose from {', '.join(map(str, lacking))}")


def number_clusters(samples: Sequence[dict[str, Any]], field: str) -> list[int]:
    """The cluster of each of lm-eval's logged samples; clusters are numbered as they first appear."""
    numbers: dict[str, int] = {}
    keys = [json.dumps(sample["doc"][field], sort_keys=True, default=str) for sample in samples]
    return [numbers.setdefault(key, len(numbers)) for key in keys]
