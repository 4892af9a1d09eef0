"""Loads lm-eval's tasks by name, on the hub's data or on files, and the tasks of the embedded world."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

from sweeplab.builtin.tasks import WORLD_TASKS
from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.evaluation.files import read_tasks_from_files
from sweeplab.runtime.errors import ConfigError

LM_EVAL_SEED: Final = 1234  # lm-eval's default, for few-shot examples and random numbers
_COMPARISONS: Final = ("acc", "acc_norm")  # metrics that depend only on which answer is most likely
_FOLDERS: Final = {  # folders of the tasks of `evaluation=lora_insights`: indexing all of lm-eval takes ten seconds
    "truthfulqa_mc1": "truthfulqa",
    "truthfulqa_mc2": "truthfulqa",
    "arithmetic_2ds": "arithmetic",
    "arithmetic_4ds": "arithmetic",
    "blimp_causative": "blimp",
    "mmlu_global_facts": "mmlu/default",
}


@cache
def make_task_manager(folders: tuple[str, ...] | None, data_dir: str | None) -> Any:
    """lm-eval's index of the tasks in `folders`, or of all tasks for None, on the hub's data or on files in
    `data_dir`."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    home = Path(str(lm_eval.__file__)).parent / "tasks"
    paths = [home / folder for folder in folders or ()]
    manager = TaskManager(include_defaults=folders is None, include_path=paths)
    return manager if data_dir is None else read_tasks_from_files(manager, data_dir)


def _choose_task_manager(names: Sequence[str], data_dir: str | None) -> Any:
    """The index with all of `names`: tasks, tags and groups. Raises `ConfigError` for a name that lm-eval lacks."""
    lm_eval_names = [name for name in names if name not in WORLD_TASKS]
    are_known = all(name in _FOLDERS for name in lm_eval_names)
    folders = tuple(sorted({_FOLDERS[name] for name in lm_eval_names})) if are_known else None
    manager = make_task_manager(folders, data_dir)
    for name in lm_eval_names:
        if name not in manager.all_tasks:
            raise ConfigError(
                f"evaluation.tasks must name lm-eval tasks, got {name}; `lm-eval ls tasks` lists them, and the small "
                f"world has {', '.join(WORLD_TASKS)}"
            )
    return manager


def load_tasks(names: Sequence[str], data_dir: str | None) -> dict[str, Any]:
    """The tasks as lm-eval loads them. Raises `ConfigError` for unknown names, and for data that cannot be loaded."""
    manager = _choose_task_manager(names, data_dir)
    tasks = [deepcopy(WORLD_TASKS.get(name, name)) for name in names]  # a copy: `configure_task` writes into it
    try:
        loaded: dict[str, Any] = manager.load(tasks)
    except ConnectionError as error:
        raise ConfigError(
            f"evaluation.tasks=[{', '.join(names)}] needs data of the hub, which cannot be reached: {error}; "
            "give their files with evaluation.data_dir=DIR (conf/evaluation/lora_insights.yaml has the format)"
        ) from error
    return loaded


def configure_task(task: Any, settings: EvaluationConfig) -> None:
    """Sets the options of a task as lm-eval's command line does (`simple_evaluate`, 0.4.13)."""
    if task.get_config("output_type") == "generate_until" and settings.gen_kwargs:
        task.set_config(key="generation_kwargs", value=dict(settings.gen_kwargs), update=True)
    fixed = task.get_config("num_fewshot")
    if fixed != 0 and settings.num_fewshot is not None:
        task.set_config(key="num_fewshot", value=settings.num_fewshot)
    elif fixed is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=LM_EVAL_SEED)


def is_comparison_only(loaded: dict[str, Any]) -> bool:
    """True where every score of given answers depends only on which answer of an item is most likely."""
    with_answers = [task for task in loaded["tasks"].values() if task.get_config("output_type") != "generate_until"]
    return all(
        task.get_config("output_type") == "multiple_choice"
        and task.get_config("process_results") is None
        and all(metric["metric"] in _COMPARISONS for metric in task.get_config("metric_list") or [{"metric": "other"}])
        for task in with_answers
    )
