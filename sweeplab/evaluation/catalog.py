"""lm-eval's tasks by name, from the hub or from files, and the small world's."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

from sweeplab.builtin.tasks import WORLD_TASKS
from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.evaluation.files import read_tasks_from_files
from sweeplab.runtime.errors import ConfigError

LM_EVAL_SEED: Final = 1234  # lm-eval's own, of few-shot examples and of draws
_COMPARISONS: Final = ("acc", "acc_norm")  # metrics that only ask which answer is likeliest
_FOLDERS: Final = {  # of `evaluation=lora_insights`; to index all of lm-eval's takes ten seconds
    "truthfulqa_mc1": "truthfulqa",
    "truthfulqa_mc2": "truthfulqa",
    "arithmetic_2ds": "arithmetic",
    "arithmetic_4ds": "arithmetic",
    "blimp_causative": "blimp",
    "mmlu_global_facts": "mmlu/default",
}


@cache
def make_task_manager(folders: tuple[str, ...] | None, data_dir: str | None) -> Any:
    """The index of lm-eval's tasks in these of its folders, or of all for None, on the hub's data or on files."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    home = Path(str(lm_eval.__file__)).parent / "tasks"
    paths = [home / folder for folder in folders or ()]
    manager = TaskManager(include_defaults=folders is None, include_path=paths)
    return manager if data_dir is None else read_tasks_from_files(manager, data_dir)


def choose_task_manager(names: Sequence[str], data_dir: str | None) -> Any:
    """The index that knows all of `names`: tasks, tags and groups. Raises `ConfigError`."""
    own = [name for name in names if name not in WORLD_TASKS]
    few = all(name in _FOLDERS for name in own)
    manager = make_task_manager(tuple(sorted({_FOLDERS[name] for name in own})) if few else None, data_dir)
    for name in own:
        if name not in manager.all_tasks:
            raise ConfigError(
                f"evaluation.tasks must name lm-eval tasks, got {name}; `lm-eval ls tasks` lists them, and the small "
                f"world has {', '.join(WORLD_TASKS)}"
            )
    return manager


def load_tasks(names: Sequence[str], data_dir: str | None) -> dict[str, Any]:
    """lm-eval's loaded tasks: the small world's configurations, its own tasks by name. Raises `ConfigError`."""
    manager = choose_task_manager(names, data_dir)
    asked = [deepcopy(WORLD_TASKS.get(name, name)) for name in names]  # `gen_kwargs` are written into a configuration
    try:
        loaded: dict[str, Any] = manager.load(asked)
    except ConnectionError as error:
        raise ConfigError(
            f"evaluation.tasks=[{', '.join(names)}] needs data of the hub, which cannot be reached: {error}; "
            "give their files with evaluation.data_dir=DIR (conf/evaluation/lora_insights.yaml has the format)"
        ) from error
    return loaded


def configure_task(task: Any, settings: EvaluationConfig) -> None:
    """What lm-eval's command line sets of a task from its own options (`simple_evaluate`, 0.4.13)."""
    if task.get_config("output_type") == "generate_until" and settings.gen_kwargs:
        task.set_config(key="generation_kwargs", value=dict(settings.gen_kwargs), update=True)
    fixed = task.get_config("num_fewshot")
    if fixed != 0 and settings.num_fewshot is not None:
        task.set_config(key="num_fewshot", value=settings.num_fewshot)
    elif fixed is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=LM_EVAL_SEED)


def is_comparison_only(loaded: dict[str, Any]) -> bool:
    """True where every score of given answers follows from which answer of an item is likeliest."""
    asked = [task for task in loaded["tasks"].values() if task.get_config("output_type") != "generate_until"]
    return all(
        task.get_config("output_type") == "multiple_choice"
        and task.get_config("process_results") is None
        and all(metric["metric"] in _COMPARISONS for metric in task.get_config("metric_list") or [{"metric": "other"}])
        for task in asked
    )
