"""lm-eval on the model in memory: the only place that imports it."""

import logging
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn

from sweeplab.config import ConfigError, EvaluationConfig
from sweeplab.evaluation.tasks import WORLD_TASKS
from sweeplab.records import Score


class Evaluation(NamedTuple):
    """Scores by task and metric, and one row per task and item with what the model answered."""

    scores: dict[str, dict[str, Score]]
    items: list[dict[str, Any]]


@cache
def task_manager(own_tasks: bool) -> Any:
    """lm-eval's task index; its own tasks take seconds to index, so only where one is asked for."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=own_tasks)


def load_tasks(names: list[str]) -> list[Any]:
    """What lm-eval's `tasks` takes: the small world's configurations, its own tasks by name. Raises `ConfigError`."""
    own = [name for name in names if name not in WORLD_TASKS]
    known = task_manager(bool(own)).all_tasks if own else []
    for name in own:
        if name not in known:
            raise ConfigError(
                f"evaluation.tasks must name lm-eval tasks, got {name}; `lm-eval ls tasks` lists them, and the small "
                f"world has {', '.join(WORLD_TASKS)}"
            )
    return [WORLD_TASKS.get(name, name) for name in names]


def metric_name(key: str) -> str | None:
    """`exact_match` for lm-eval's `exact_match,none`, with the filter's name where it has one; None for other keys."""
    metric, comma, chosen = key.partition(",")
    if not comma or metric.endswith("_stderr"):
        return None
    return metric if chosen == "none" else f"{metric}@{chosen}"


def scores_of(results: dict[str, Any], num_items: dict[str, dict[str, int]]) -> dict[str, dict[str, Score]]:
    """Every numeric metric of every task; a standard error that lm-eval could not give ('N/A') is None."""
    scores: dict[str, dict[str, Score]] = {}
    for task, values in results.items():
        for key, value in values.items():
            name = metric_name(key)
            if name is None or isinstance(value, str):
                continue
            metric, _, chosen = key.partition(",")
            stderr = values.get(f"{metric}_stderr,{chosen}")
            known = None if stderr is None or isinstance(stderr, str) else float(stderr)
            scores.setdefault(task, {})[name] = Score(float(value), known, num_items[task]["effective"])
    return scores


def item_rows(samples: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Task, item, target, filtered responses and the item's own metrics, in lm-eval's order."""
    return [
        {
            "task": task,
            "item": sample["doc_id"],
            "filter": sample["filter"],
            "target": str(sample["target"]),
            "responses": [str(response) for response in sample["filtered_resps"]],
            "metrics": {name: plain_number(sample[name]) for name in sample["metrics"]},
        }
        for task, rows in samples.items()
        for sample in rows
    ]


def plain_number(value: Any) -> float | str:
    """NumPy's and Python's numbers as float, a metric's compound intermediate result as its text."""
    return float(value) if isinstance(value, int | float) or hasattr(value, "__float__") else str(value)


def run_lm_eval(model: nn.Module, tokenizer: Any, settings: EvaluationConfig) -> Evaluation:
    """Scores `model` as it stands, adapter on, on `settings.tasks`. Raises `ConfigError` for an unknown task."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns that the model is in memory, which is the point
    was_training = model.training
    model.eval()
    with torch.no_grad():
        results = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=settings.batch_size),
            tasks=load_tasks(settings.tasks),
            num_fewshot=settings.num_fewshot,
            limit=settings.limit,
            bootstrap_iters=settings.bootstrap_iters,
            task_manager=task_manager(any(name not in WORLD_TASKS for name in settings.tasks)),
        )
    model.train(was_training)
    return Evaluation(scores_of(results["results"], results["n-samples"]), item_rows(results["samples"]))
