"""lm-eval on the model in memory."""

import json
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from jinja2 import TemplateError
from torch import nn

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.evaluation.catalog import LM_EVAL_SEED, build_requests, is_comparison_only, load_tasks
from sweeplab.evaluation.files import fingerprint_tasks
from sweeplab.evaluation.heldout import in_evaluation_mode
from sweeplab.evaluation.identity import Probe, Select, Tell, refuse_other_model
from sweeplab.evaluation.results import Evaluation, read_evaluation
from sweeplab.evaluation.sampling import choose_samples, refuse_unknown_clusters
from sweeplab.evaluation.shared_context import FREELY, SharingRule
from sweeplab.runtime.errors import ConfigError, describe_error

if TYPE_CHECKING:
    from sweeplab.evaluation.judged_task import References

_RANDOM_SEED: Final = 0  # lm-eval's default, for Python's random numbers
_MOST_PREPARED: Final = 2  # the tasks after training, and those of the rungs
_NOT_IN_REQUESTS: Final = ("batch_size", "bootstrap_iters", "rung_tasks")  # settings that do not change any request


class PreparedTasks(NamedTuple):
    """Tasks with their requests, and the states of Python's and NumPy's random numbers once these were built."""

    loaded: dict[str, Any]
    samples: dict[str, list[int]] | None  # as in `choose_samples`
    random_states: tuple[Any, Any]


_prepared: dict[str, PreparedTasks] = {}  # cache by settings and what is in the tasks' files


def prepare_tasks(settings: EvaluationConfig, lm: Any) -> PreparedTasks:
    """The tasks with their requests, which are built once for all trials with these settings. Raises `ConfigError`."""
    relevant = {name: value for name, value in settings.to_dict().items() if name not in _NOT_IN_REQUESTS}
    template = lm.chat_template(True) if settings.apply_chat_template else None
    key = json.dumps([relevant, template, fingerprint_tasks(settings)], sort_keys=True)
    if key not in _prepared:
        while len(_prepared) >= _MOST_PREPARED:
            del _prepared[next(iter(_prepared))]
        random.seed(_RANDOM_SEED)
        np.random.seed(LM_EVAL_SEED)
        loaded = load_tasks(settings)
        with keep_random_states():  # a task may draw as its items are counted
            samples = choose_samples(loaded, settings)
        build_requests(loaded, settings, samples, lm)
        refuse_unknown_clusters(loaded, settings.clusters)
        _prepared[key] = PreparedTasks(loaded, samples, (random.getstate(), np.random.get_state()))
    return _prepared[key]


def _forget_answers(loaded: dict[str, Any]) -> None:
    for task in loaded["tasks"].values():
        for request in task.instances:
            request.resps, request.filtered_resps = [], {}


def ask_prepared(lm: Any, prepared: PreparedTasks, settings: EvaluationConfig) -> Any:
    """lm-eval's results of the prepared tasks on `lm`. It sets the states of random numbers."""
    from lm_eval.evaluator import evaluate

    _forget_answers(prepared.loaded)
    own, arrays = prepared.random_states
    random.setstate(own)
    np.random.set_state(arrays)
    torch.manual_seed(LM_EVAL_SEED)
    with torch.no_grad():
        return evaluate(
            lm=lm, task_dict=prepared.loaded, samples=prepared.samples, bootstrap_iters=settings.bootstrap_iters
        )


@contextmanager
def keep_random_states() -> Iterator[None]:
    """Restores Python's and NumPy's random numbers afterwards."""
    own, arrays = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(arrays)


def _refuse_template(tokenizer: Any, instruction: str | None) -> None:
    """Raises `ConfigError` without a chat template, and for one that does not write `instruction`.

    lm-eval would leave the instruction out where the template refuses it.
    """
    if tokenizer.chat_template is None:
        raise ConfigError(
            "evaluation.apply_chat_template=true needs a tokenizer with a chat template, which this model lacks; "
            "use false, or a model that was trained to chat"
        )
    system = [] if instruction is None else [{"role": "system", "content": instruction}]
    remedy = "use false" if instruction is None else "leave evaluation.system_instruction null, or use false"
    try:
        text = tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": "?"}], tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        reason = describe_error(error)
        raise ConfigError(
            f"evaluation.apply_chat_template=true: the tokenizer's chat template refuses the messages: {reason}; "
            f"{remedy}"
        ) from error
    if instruction is not None and instruction.strip() not in text:
        raise ConfigError(
            "evaluation.apply_chat_template=true: the tokenizer's chat template leaves out "
            f"evaluation.system_instruction; {remedy}"
        )


def run_lm_eval(
    model: nn.Module,
    tokenizer: Any,
    settings: EvaluationConfig,
    num_trials: int,
    select_trials: Select,
    probe: Probe | None = None,
    rule: SharingRule = FREELY,
    tell: Tell = lambda trial, count: None,
    references: "References | None" = None,
) -> list[Evaluation]:
    """Scores every trial of a cohort on `settings.tasks`. Raises `ConfigError` for tasks that cannot be scored.

    Within `select_trials(indices)`, a batch of `model` holds the rows of these trials, one trial after another. With a
    `probe`, lm-eval's logits are first compared with those of training; raises `OtherModelError` where they differ.
    `rule` says which texts the model may compute together.
    `tell` is called with the trial that is scored, and how far that is. `references`: of the task `own` with a judge.
    """
    from sweeplab.evaluation.judged_task import judging, list_judge_notes
    from sweeplab.evaluation.lm import CohortLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it would warn that the model is already in memory
    if settings.apply_chat_template:
        _refuse_template(tokenizer, settings.system_instruction)
    evaluations = []
    with keep_random_states(), in_evaluation_mode(model):  # lm-eval's own class changes the mode, too
        lm = CohortLM(model, tokenizer, settings.batch_size, num_trials, select_trials, rule, tell)
        prepared = prepare_tasks(settings, lm)
        lm.allow_sharing(is_comparison_only(prepared.loaded))
        for trial in range(num_trials):
            lm.begin_trial(trial)
            if probe is not None:
                refuse_other_model(lm, trial, probe)
            with judging(prepared.loaded, references):
                results = ask_prepared(lm, prepared, settings)
            read = read_evaluation(results, prepared.loaded, settings.clusters)
            judged = [] if references is None else list_judge_notes(read.items)
            evaluations.append(read._replace(notes=(*lm.notes, *judged)))
    return evaluations
