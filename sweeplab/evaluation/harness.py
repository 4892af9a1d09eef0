"""lm-eval on the model in memory."""

import json
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import nn

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.evaluation.catalog import LM_EVAL_SEED, build_requests, is_comparison_only, load_tasks
from sweeplab.evaluation.identity import Choose, Probe, refuse_other_model
from sweeplab.evaluation.results import Evaluation, read_evaluation
from sweeplab.runtime.errors import ConfigError

_RANDOM_SEED: Final = 0  # lm-eval's own, of Python's random numbers
_MOST_PREPARED: Final = 2  # those of the end, and those of the rungs
_NOT_IN_REQUESTS: Final = ("batch_size", "bootstrap_iters", "rung_tasks")  # settings that change no request


class _Prepared(NamedTuple):
    """Loaded tasks with their requests, and the states of Python's and NumPy's random numbers after these."""

    loaded: dict[str, Any]
    states: tuple[Any, Any]


_prepared: dict[str, _Prepared] = {}  # the tasks of the last settings


def _prepare_tasks(settings: EvaluationConfig, lm: Any) -> _Prepared:
    """Tasks whose requests are built once, for all trials that are asked the same. Raises `ConfigError`."""
    asks = {name: value for name, value in settings.to_dict().items() if name not in _NOT_IN_REQUESTS}
    template = lm.chat_template(True) if settings.apply_chat_template else None
    key = json.dumps([asks, template], sort_keys=True)
    if key not in _prepared:
        while len(_prepared) >= _MOST_PREPARED:
            del _prepared[next(iter(_prepared))]
        random.seed(_RANDOM_SEED)
        np.random.seed(LM_EVAL_SEED)
        loaded = load_tasks(settings.tasks, settings.data_dir)
        build_requests(loaded, settings, lm)
        _prepared[key] = _Prepared(loaded, (random.getstate(), np.random.get_state()))
    return _prepared[key]


def _forget_answers(loaded: dict[str, Any]) -> None:
    for task in loaded["tasks"].values():
        for request in task.instances:
            request.resps, request.filtered_resps = [], {}


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Python's and NumPy's random numbers go on afterwards as if nothing had drawn any within."""
    own, arrays = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(arrays)


def run_lm_eval(
    model: nn.Module,
    tokenizer: Any,
    settings: EvaluationConfig,
    num_trials: int,
    choose: Choose,
    probe: Probe | None = None,
) -> list[Evaluation]:
    """Scores every trial of a cohort on `settings.tasks`. Raises `ConfigError` for tasks that it cannot have.

    Within `choose(places)`, `model` is that of the trials at these places, one's rows after another's. With a `probe`,
    each trial is scored only after lm-eval was seen to have what was trained; else raises `OtherModelError`.
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
    lm = CohortLM(model, tokenizer, settings.batch_size, num_trials, choose)
    evaluations = []
    with _random_states_kept():
        loaded, states = _prepare_tasks(settings, lm)
        lm.allow_sharing(is_comparison_only(loaded))
        model.eval()
        for trial in range(num_trials):
            lm.turn_to(trial)
            if probe is not None:
                refuse_other_model(lm, trial, probe)
            _forget_answers(loaded)
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.manual_seed(LM_EVAL_SEED)
            with torch.no_grad():
                results = evaluate(
                    lm=lm, task_dict=loaded, limit=settings.limit, bootstrap_iters=settings.bootstrap_iters
                )
            evaluations.append(read_evaluation(results, loaded))
    model.train(was_training)
    return evaluations
