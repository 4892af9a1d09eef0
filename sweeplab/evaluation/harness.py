"""lm-eval on the model in memory."""

import json
import logging
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.evaluation.catalog import LM_EVAL_SEED, configure_task, is_comparison_only, load_tasks
from sweeplab.evaluation.identity import Choose, Probe, refuse_other_model
from sweeplab.records.record import Score
from sweeplab.runtime.errors import ConfigError


class Evaluation(NamedTuple):
    """Scores by task and metric, and one row per task and item with what the model answered."""

    scores: dict[str, dict[str, Score]]
    items: list[dict[str, Any]]
    notes: tuple[str, ...] = ()  # which faster way of computing was not taken, and why


_prepared: dict[str, dict[str, Any]] = {}  # the tasks of the last settings, with their requests
_MOST_PREPARED: Final = 2  # those of the end, and those of the rungs
_NOT_IN_REQUESTS: Final = ("batch_size", "bootstrap_iters", "rung_tasks")  # settings that change no request


def _prepare_tasks(settings: EvaluationConfig, lm: Any) -> dict[str, Any]:
    """Tasks whose requests are built once, for all trials that are asked the same. Raises `ConfigError`."""
    asks = {name: value for name, value in settings.to_dict().items() if name not in _NOT_IN_REQUESTS}
    template = lm.chat_template(True) if settings.apply_chat_template else None
    key = json.dumps([asks, template], sort_keys=True)
    if key not in _prepared:
        while len(_prepared) >= _MOST_PREPARED:
            del _prepared[next(iter(_prepared))]
        loaded = load_tasks(settings.tasks, settings.data_dir)
        for task in loaded["tasks"].values():
            configure_task(task, settings)
            task.build_all_requests(
                limit=settings.limit,
                system_instruction=settings.system_instruction,
                apply_chat_template=settings.apply_chat_template,
                fewshot_as_multiturn=settings.apply_chat_template,
                chat_template=lm.apply_chat_template if settings.apply_chat_template else None,
                tokenizer_name=lm.tokenizer_name if settings.apply_chat_template else "",
            )
            task.build_all_requests = lambda **_: None  # `evaluate` would build them again for every trial
        _prepared[key] = loaded
    return _prepared[key]


def _forget_answers(loaded: dict[str, Any]) -> None:
    for task in loaded["tasks"].values():
        for request in task.instances:
            request.resps, request.filtered_resps = [], {}


def name_metric(key: str) -> str | None:
    """`exact_match` for lm-eval's `exact_match,none`, with the filter's name where it has one; None for other keys."""
    metric, comma, chosen = key.partition(",")
    if not comma or metric.endswith("_stderr"):
        return None
    return metric if chosen == "none" else f"{metric}@{chosen}"


def read_scores(results: dict[str, Any], num_items: dict[str, dict[str, int]]) -> dict[str, dict[str, Score]]:
    """Every metric of every task that is a number; a standard error that lm-eval could not give ('N/A') is None."""
    scores: dict[str, dict[str, Score]] = {}
    for task, values in results.items():
        for key, value in values.items():
            name = name_metric(key)
            if name is None or not _is_finite_number(value):
                continue
            metric, _, chosen = key.partition(",")
            stderr = values.get(f"{metric}_stderr,{chosen}")
            known = float(stderr) if _is_finite_number(stderr) else None
            scores.setdefault(task, {})[name] = Score(float(value), known, num_items[task]["effective"])
    return scores


def list_item_rows(samples: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Task, item, target, filtered responses and the item's own metrics, in lm-eval's order."""
    return [
        {
            "task": task,
            "item": sample["doc_id"],
            "filter": sample["filter"],
            "target": str(sample["target"]),
            "responses": [str(response) for response in sample["filtered_resps"]],
            "metrics": {name: _to_plain_number(sample[name]) for name in sample["metrics"]},
        }
        for task, rows in samples.items()
        for sample in rows
    ]


def _is_finite_number(value: Any) -> bool:
    """True for Python's and NumPy's numbers, but for those that JSON has no word for."""
    return hasattr(value, "__float__") and math.isfinite(value)


def _to_plain_number(value: Any) -> float | str:
    """A number as float, a metric's compound intermediate result as its text."""
    return float(value) if _is_finite_number(value) else str(value)


def run_lm_eval(
    model: nn.Module,
    tokenizer: Any,
    settings: EvaluationConfig,
    num_trials: int,
    choose: Choose,
    probe: Probe | None = None,
    why_unshared: Callable[[int], str | None] = lambda longest: None,
) -> list[Evaluation]:
    """Scores every trial of a cohort on `settings.tasks`. Raises `ConfigError` for an unknown task.

    Within `choose(places)`, `model` is that of the trials at these places, one's rows after another's. With a `probe`,
    each trial is scored only after lm-eval was seen to have what was trained; else raises `OtherModelError`.
    `why_unshared` says of the longest text's length why the model may not read several answers in one row.
    """
    from lm_eval.evaluator import evaluate

    from sweeplab.evaluation.lm import CohortLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns that the model is in memory, which is the point
    if settings.apply_chat_template and tokenizer.chat_template is None:
        raise ConfigError(
            "evaluation.apply_chat_template=true needs a tokenizer with a chat template, which this model's lacks; "
            "use false, or a model that was trained to chat"
        )
    was_training = model.training
    lm = CohortLM(model, tokenizer, settings.batch_size, num_trials, choose, why_unshared)
    loaded = _prepare_tasks(settings, lm)
    lm.allow_sharing(is_comparison_only(loaded))
    model.eval()
    evaluations = []
    for trial in range(num_trials):
        lm.turn_to(trial)
        if probe is not None:
            refuse_other_model(lm, trial, probe)
        _forget_answers(loaded)
        torch.manual_seed(LM_EVAL_SEED)
        with torch.no_grad():
            results = evaluate(lm=lm, task_dict=loaded, limit=settings.limit, bootstrap_iters=settings.bootstrap_iters)
        scores = read_scores(results["results"], results["n-samples"])
        evaluations.append(Evaluation(scores, list_item_rows(results["samples"]), tuple(lm.notes)))
    model.train(was_training)
    return evaluations
