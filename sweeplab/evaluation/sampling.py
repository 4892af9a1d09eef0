"""Which items of a task are scored: all of them, or a sample of `evaluation.limit`."""

import random
from collections.abc import Sequence
from typing import Any

from sweeplab.config.evaluation import EvaluationConfig


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
