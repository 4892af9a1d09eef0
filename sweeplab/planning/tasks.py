"""Counts what a trial's tasks ask of the base: lm-eval runs on a model that counts tokens and computes nothing."""

import json
import logging
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from sweeplab.builtin.tasks import WORLD_TASKS
from sweeplab.config.evaluation import OWN_TASK, EvaluationConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.evaluation.files import fingerprint_tasks
from sweeplab.evaluation.shared_context import SharingRule
from sweeplab.models.base import load_tokenizer, read_architecture
from sweeplab.models.behavior import random_numbers_kept
from sweeplab.models.random_weights import make_empty_model
from sweeplab.models.row_limits import find_growing_length, find_row_limit, list_row_limits
from sweeplab.records.plan import PlannedTask

if TYPE_CHECKING:
    from sweeplab.planning.counting_lm import CountingLM

_MOST_REQUESTS: Final = 20_000  # whose texts are asked for twice, so that what comes once is known apart


class EvaluationWork(NamedTuple):
    """What all tasks of a trial ask."""

    tasks: tuple[PlannedTask, ...]
    written_rows: int  # of the largest batch that is written; 0: nothing is
    written_after: int  # tokens of the longest text that is written on
    prepare_seconds: float  # of reading items and making tokens of them, once for each worker
    harness_seconds: float  # of lm-eval's own work on a trial's answers

    @property
    def num_tokens(self) -> int:
        return sum(task.num_tokens for task in self.tasks)

    @property
    def num_steps(self) -> int:
        return sum(task.num_steps for task in self.tasks)


NO_TASKS: Final = EvaluationWork((), 0, 0, 0.0, 0.0)
_counted: dict[str, EvaluationWork | None] = {}  # cache by model, settings and what is in the tasks' files


def _are_here(settings: EvaluationConfig) -> bool:
    """True where the items of all tasks are known to be on this machine."""
    return settings.data_dir is not None or all(name in WORLD_TASKS or name == OWN_TASK for name in settings.tasks)


def count_evaluation_work(config: TrialConfig, dtype: torch.dtype) -> EvaluationWork | None:
    """What `evaluation.tasks` ask; None where their items may be on the hub, where a task's own code does not take a
    response that is made up, and for images. `dtype`: of the base. Raises `ConfigError` for tasks that the run would
    refuse."""
    settings = config.evaluation
    if not settings.tasks:
        return NO_TASKS
    if config.data.is_images() or not _are_here(settings):
        return None
    key = json.dumps(
        [config.model.to_dict(), sorted(config.quantization.schemes()), settings.to_dict(), str(dtype)], default=str
    )
    key += str(fingerprint_tasks(settings))
    if key not in _counted:
        _counted[key] = _count(config, dtype)
    return _counted[key]


def _count(config: TrialConfig, dtype: torch.dtype) -> EvaluationWork | None:
    """As `count_evaluation_work`, of tasks whose items are here."""
    settings = config.evaluation
    from sweeplab.evaluation.catalog import TaskError, is_comparison_only
    from sweeplab.evaluation.harness import ask_prepared, keep_random_states, prepare_tasks

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    started, seconds = time.process_time(), list[float]()
    with keep_random_states(), random_numbers_kept(torch.device("cpu")):
        lm = _make_counting_model(config, dtype)
        prepared = prepare_tasks(settings, lm)
        tasks = prepared.loaded["tasks"]
        lm.allow_sharing(is_comparison_only(prepared.loaded))
        for task in tasks.values():
            lm.answers |= _list_longest_answers(task, lm)
        num_requests = sum(len(task.instances) for task in tasks.values())
        for _ in range(1 if num_requests > _MOST_REQUESTS else 2):
            lm.forget_counts()
            try:
                ask_prepared(lm, prepared, settings)
            except TaskError:
                return None
            seconds.append(time.process_time() - started - sum(seconds))
    works = tuple(
        PlannedTask(
            task=name,
            num_items=len({request.doc_id for request in task.instances}),
            num_tokens=lm.tokens[name],
            num_steps=lm.steps[name],
            most_steps=lm.most_steps[name],
        )
        for name, task in tasks.items()
    )
    return EvaluationWork(works, lm.rows, lm.after, max(0.0, seconds[0] - seconds[-1]), seconds[-1])


def _list_longest_answers(task: Any, lm: "CountingLM") -> dict[str, int]:
    """Tokens of the longest right answer, by task; nothing for a task that does not say one as a text."""
    asked = [request.doc for request in task.instances if request.request_type == "generate_until"]
    answers = [task.doc_to_target(item) for item in asked]
    texts = [text for one in answers for text in (one if isinstance(one, list | tuple) else [one])]
    if not texts or not all(isinstance(text, str) for text in texts):
        return {}
    return {task.task_name: max(len(lm.tok_encode(text)) for text in texts)}


def _make_counting_model(config: TrialConfig, dtype: torch.dtype) -> "CountingLM":
    """lm-eval's model of the trial's base, which has its sizes and tokenizer and no weights."""
    from sweeplab.planning.counting_lm import CountingLM

    # products in 8 bits share no rows, as numbers of 16 bits do not
    model = make_empty_model(
        read_architecture(config.model), torch.float16 if "int8" in config.quantization.schemes() else dtype
    )
    limits = list_row_limits(model)

    def why_unshared(longest: int) -> str | None:
        limit = find_row_limit(limits, longest)
        return None if limit is None else limit.why

    batch_size = config.evaluation.batch_size
    rule = SharingRule(why_unshared, find_growing_length(model))
    return CountingLM(model, load_tokenizer(config.model), batch_size, 1, lambda _: nullcontext(), rule)
