"""Runs lm-eval on the model in memory."""

import json
import logging
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.evaluation.catalog import LM_EVAL_SEED, configure_task, is_comparison_only, load_tasks
from sweeplab.evaluation.identity import Probe, Select, refuse_other_model
from sweeplab.records.record import Score
from sweeplab.runtime.errors import ConfigError


class Evaluation(NamedTuple):
    """Scores by task and metric, and one row per task and item with the model's answers."""

    scores: dict[str, dict[str, Score]]
    items: list[dict[str, Any]]
    notes: tuple[str, ...] = ()  # which faster way of computing was not taken, and why


_prepared: dict[str, dict[str, Any]] = {}  # cache of tasks with their requests, by settings
_MOST_PREPARED: Final = 2  # the tasks after training, and those of the rungs
_NOT_IN_REQUESTS: Final = ("batch_size", "bootstrap_iters", "rung_tasks")  # settings that do not change any request


def _prepare_tasks(settings: EvaluationConfig, lm: Any) -> dict[str, Any]:
    """The tasks with their requests, which are built once for all trials with these settings. Raises `ConfigError`."""
    relevant = {name: value for name, value in settings.to_dict().items() if name not in _NOT_IN_REQUESTS}
    template = lm.chat_template(True) if settings.apply_chat_template else None
    key = json.dumps([relevant, template], sort_keys=True)
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


def _name_metric(key: str) -> str | None:
    """`exact_match` for lm-eval's key `exact_match,none`, `exact_match@filter` for one with a filter; else None."""
    metric, comma, filter_name = key.partition(",")
    if not comma or metric.endswith("_stderr"):
        return None
    return metric if filter_name == "none" else f"{metric}@{filter_name}"


def _read_scores(results: dict[str, Any], num_items: dict[str, dict[str, int]]) -> dict[str, dict[str, Score]]:
    """The scores by task and metric; metrics that are not numbers are left out, a standard error 'N/A' becomes None."""
    scores: dict[str, dict[str, Score]] = {}
    for task, values in results.items():
        for key, value in values.items():
            name = _name_metric(key)
            if name is None or not _is_finite_number(value):
                continue
            metric, _, filter_name = key.partition(",")
            stderr = values.get(f"{metric}_stderr,{filter_name}")
            known = float(stderr) if _is_finite_number(stderr) else None
            scores.setdefault(task, {})[name] = Score(float(value), known, num_items[task]["effective"])
    return scores


def _list_item_rows(samples: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each task and item: target, filtered responses and the item's metrics, in lm-eval's order."""
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
    """True for finite numbers of Python and NumPy."""
    return hasattr(value, "__float__") and math.isfinite(value)


def _to_plain_number(value: Any) -> float | str:
    """A number as a float; the intermediate result of a compound metric as text."""
    return float(value) if _is_finite_number(value) else str(value)


def run_lm_eval(
    model: nn.Module,
    tokenizer: Any,
    settings: EvaluationConfig,
    num_trials: int,
    select_trials: Select,
    probe: Probe | None = None,
    why_unshared: Callable[[int], str | None] = lambda longest: None,
) -> list[Evaluation]:
    """Scores every trial of a cohort on `settings.tasks`. Raises `ConfigError` for an unknown task.

    Within `select_trials(indices)`, a batch of `model` holds the rows of these trials, one trial after another. With a
    `probe`, lm-eval's logits are first compared with those of training; raises `OtherModelError` where they differ.
    `why_unshared` says, of the longest text's length, why the model may not read several answers in one row.
    """
    from lm_eval.evaluator import evaluate

    from sweeplab.evaluation.lm import CohortLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it would warn that the model is already in memory
    if settings.apply_chat_template and tokenizer.chat_template is None:
        raise ConfigError(
            "evaluation.apply_chat_template=true needs a tokenizer with a chat template, which this model lacks; "
            "use false, or a model that was trained to chat"
        )
    was_training = model.training
    lm = CohortLM(model, tokenizer, settings.batch_size, num_trials, select_trials, why_unshared)
    loaded = _prepare_tasks(settings, lm)
    lm.allow_sharing(is_comparison_only(loaded))
    model.eval()
    evaluations = []
    for trial in range(num_trials):
        lm.begin_trial(trial)
        if probe is not None:
            refuse_other_model(lm, trial, probe)
        _forget_answers(loaded)
        torch.manual_seed(LM_EVAL_SEED)
        with torch.no_grad():
            results = evaluate(lm=lm, task_dict=loaded, limit=settings.limit, bootstrap_iters=settings.bootstrap_iters)
        scores = _read_scores(results["results"], results["n-samples"])
        evaluations.append(Evaluation(scores, _list_item_rows(results["samples"]), tuple(lm.notes)))
    model.train(was_training)
    return evaluations
