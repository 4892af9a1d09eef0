"""What a trial is scored on."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sweeplab.config.tasks import check_task_names
from sweeplab.runtime.errors import check_at_least, refuse
from sweeplab.runtime.paths import expand_home


@dataclass
class EvaluationConfig:
    tasks: list[str] = MISSING  # lm-eval task names; none: held-out loss only
    rung_tasks: list[str] = field(default_factory=list)  # of tasks, those scored at every held-out loss in training too
    batch_size: int = MISSING
    limit: int | None = None  # items per task; null: all
    num_fewshot: int | None = None  # null: the task's own
    bootstrap_iters: int = MISSING  # for standard errors without a closed form
    data_dir: str | None = None  # folder with lm-eval's tasks as JSON lines; null: from the hub
    gen_kwargs: dict[str, Any] = field(default_factory=dict)  # of generation, over the task's own
    apply_chat_template: bool = MISSING  # the tokenizer's, around every prompt
    system_instruction: str | None = None  # before every prompt


def check_evaluation(evaluation: EvaluationConfig) -> None:
    check_task_names(evaluation.tasks)
    check_at_least("evaluation.batch_size", evaluation.batch_size, 1, "use a whole number from 1")
    check_at_least("evaluation.limit", evaluation.limit, 1, "use null for all items")
    check_at_least("evaluation.num_fewshot", evaluation.num_fewshot, 0, "use null for the task's own")
    check_at_least("evaluation.bootstrap_iters", evaluation.bootstrap_iters, 1, "try 1000")
    if evaluation.data_dir is not None and not expand_home(evaluation.data_dir).is_dir():
        raise refuse("evaluation.data_dir", "must be a folder", evaluation.data_dir, "check the path, or leave it null")
