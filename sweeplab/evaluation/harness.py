"""lm-eval on the model in memory: the only place that imports it."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from sweeplab.config import ConfigError, EvaluationConfig
from sweeplab.evaluation.tasks import WORLD_TASKS
from sweeplab.records import Score

SEED: Final = 1234  # lm-eval's own, of few-shot examples and of draws
Choose = Callable[[Sequence[int]], AbstractContextManager[None]]


class Evaluation(NamedTuple):
    """Scores by task and metric, and one row per task and item with what the model answered."""

    scores: dict[str, dict[str, Score]]
    items: list[dict[str, Any]]


@cache
def task_manager(own_tasks: bool) -> Any:
    """lm-eval's task index; its own tasks take seconds to index, so only where one is asked for."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=own_tasks)


def load_tasks(names: Sequence[str]) -> dict[str, Any]:
    """lm-eval's loaded tasks: the small world's configurations, its own tasks by name. Raises `ConfigError`."""
    manager = manager_of(names)
    loaded: dict[str, Any] = manager.load([WORLD_TASKS.get(name, name) for name in names])
    return loaded


def manager_of(names: Sequence[str]) -> Any:
    """The index that knows all of `names`. Raises `ConfigError`."""
    own = [name for name in names if name not in WORLD_TASKS]
    manager = task_manager(bool(own))
    for name in own:
        if name not in manager.all_tasks:
            raise ConfigError(
                f"evaluation.tasks must name lm-eval tasks, got {name}; `lm-eval ls tasks` lists them, and the small "
                f"world has {', '.join(WORLD_TASKS)}"
            )
    return manager


@cache
def prepared_tasks(names: tuple[str, ...], limit: int | None, num_fewshot: int | None) -> dict[str, Any]:
    """Tasks whose requests are built once, for all trials that are asked the same."""
    loaded = load_tasks(names)
    for task in loaded["tasks"].values():
        fixed = task.get_config("num_fewshot")
        if fixed != 0 and num_fewshot is not None:
            task.set_config(key="num_fewshot", value=num_fewshot)
        elif fixed is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=SEED)
        task.build_all_requests(limit=limit)
        task.build_all_requests = lambda **_: None  # `evaluate` would build them again for every trial
    return loaded


def forget_answers(loaded: dict[str, Any]) -> None:
    for task in loaded["tasks"].values():
        for request in task.instances:
            request.resps, request.filtered_resps = [], {}


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


def cohort_model(model: nn.Module, tokenizer: Any, batch_size: int, num_trials: int, choose: Choose) -> Any:
    """lm-eval's own model class, asked for one trial after another.

    What is generated for the first trial is generated for all of them at once: a step of generation has one token a
    row, so that more rows cost little. Scores of given answers are computed trial by trial: their batches are full.
    """
    from lm_eval.models.huggingface import HFLM

    class CohortLM(HFLM):  # type: ignore[misc]
        trial = 0
        num_calls = 0

        def turn_to(self, trial: int) -> None:
            self.trial, self.num_calls = trial, 0

        def _model_call(self, *args: Any, **kwargs: Any) -> Tensor:
            with choose([self.trial]):
                logits: Tensor = super()._model_call(*args, **kwargs)
                return logits

        def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **kwargs: Any) -> Tensor:
            if kwargs.get("do_sample"):  # a trial's draws must not depend on its company
                with choose([self.trial]):
                    alone: Tensor = super()._model_generate(context, max_length, stop, **kwargs)
                    return alone
            if self.trial == 0:
                mask = kwargs.pop("attention_mask").repeat(num_trials, 1)
                rows = context.repeat(num_trials, 1)
                with choose(range(num_trials)):
                    tokens = super()._model_generate(rows, max_length, stop, attention_mask=mask, **kwargs)
                generated.append(tokens.chunk(num_trials))
            self.num_calls += 1
            return generated[self.num_calls - 1][self.trial]

    generated: list[tuple[Tensor, ...]] = []  # by call, then by trial
    return CohortLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


def run_lm_eval(
    model: nn.Module, tokenizer: Any, settings: EvaluationConfig, num_trials: int, choose: Choose
) -> list[Evaluation]:
    """Scores every trial of a cohort on `settings.tasks`. Raises `ConfigError` for an unknown task.

    Within `choose(places)`, `model` is that of the trials at these places, one's rows after another's.
    """
    from lm_eval.evaluator import evaluate

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns that the model is in memory, which is the point
    loaded = prepared_tasks(tuple(settings.tasks), settings.limit, settings.num_fewshot)
    was_training = model.training
    lm = cohort_model(model, tokenizer, settings.batch_size, num_trials, choose)
    model.eval()
    evaluations = []
    for trial in range(num_trials):
        lm.turn_to(trial)
        forget_answers(loaded)
        torch.manual_seed(SEED)
        with torch.no_grad():
            results = evaluate(lm=lm, task_dict=loaded, limit=settings.limit, bootstrap_iters=settings.bootstrap_iters)
        evaluations.append(
            Evaluation(scores_of(results["results"], results["n-samples"]), item_rows(results["samples"]))
        )
    model.train(was_training)
    return evaluations
