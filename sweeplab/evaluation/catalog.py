"""Loads lm-eval's tasks by name, on the hub's data or on files, and the tasks of the embedded world."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

from sweeplab.builtin.tasks import WORLD_TASKS
from sweeplab.config.evaluation import OWN_TASK, EvaluationConfig
from sweeplab.config.included import list_missing
from sweeplab.config.tasks import stands_nowhere
from sweeplab.evaluation.files import fingerprint_tasks, read_tasks_from_files
from sweeplab.evaluation.included import forbid_code
from sweeplab.runtime.errors import ConfigError, describe_error, describe_error_with_kind, refuse
from sweeplab.runtime.paths import expand_home

LM_EVAL_SEED: Final = 1234  # lm-eval's default, for few-shot examples and random numbers
_REMEDY: Final = "drop it, or the group that has it"
_COMPARISONS: Final = ("acc", "acc_norm")  # metrics that depend only on which answer is most likely
_FOLDERS: Final = {  # folders of the tasks of `evaluation=lora_insights`: indexing all of lm-eval takes ten seconds
    "truthfulqa_mc1": "truthfulqa",
    "truthfulqa_mc2": "truthfulqa",
    "arithmetic_2ds": "arithmetic",
    "arithmetic_4ds": "arithmetic",
    "blimp_causative": "blimp",
    "mmlu_global_facts": "mmlu/default",
}


class TaskError(RuntimeError):
    """The code of a task failed on what a model answered."""


@cache
def make_task_manager(
    folders: tuple[str, ...] | None,
    data_dir: str | None,
    include_path: str | None = None,
    runs_code: bool = False,
    fingerprint: str | None = None,
) -> Any:
    """lm-eval's index of the tasks in `folders`, or of all tasks for None, on the hub's data or on files in `data_dir`.

    Tasks of `include_path` take the place of lm-eval's of the same name, as with its command line. `fingerprint`: of
    their files, so that an index of other ones is not taken again.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    home = Path(str(lm_eval.__file__)).parent / "tasks"
    paths = [home / folder for folder in folders or ()]
    own = [] if include_path is None else [expand_home(include_path)]
    manager = TaskManager(include_defaults=folders is None, include_path=paths + own)
    if data_dir is not None:
        manager = read_tasks_from_files(manager, data_dir)
    return manager if include_path is None or runs_code else forbid_code(manager)


def _choose_task_manager(settings: EvaluationConfig) -> Any:
    """The index with all tasks, tags and groups asked for. Raises `ConfigError` for a name that lm-eval lacks."""
    lm_eval_names = [name for name in settings.tasks if name not in WORLD_TASKS and name != OWN_TASK]
    folders: tuple[str, ...] | None = None
    if settings.include_path is not None:
        others = list_missing(settings.include_path, lm_eval_names)
        folders = () if all(map(stands_nowhere, others)) else None  # nothing of lm-eval's own is asked for
    elif all(name in _FOLDERS for name in lm_eval_names):
        folders = tuple(sorted({_FOLDERS[name] for name in lm_eval_names}))
    included: tuple[Any, ...] = ()
    if settings.include_path is not None:
        included = (settings.include_path, settings.include_code, fingerprint_tasks(settings))
    manager = make_task_manager(folders, settings.data_dir, *included)
    for name in lm_eval_names:
        if name not in manager.all_tasks:
            raise ConfigError(
                f"evaluation.tasks must name lm-eval tasks, got {name}; `lm-eval ls tasks` lists them, and the small "
                f"world has {', '.join(WORLD_TASKS)}"
            )
    return manager


def load_tasks(settings: EvaluationConfig) -> dict[str, Any]:
    """lm-eval's loaded tasks and groups: the small world's configurations, its own by name. Raises `ConfigError`.

    All at once, as its command line does: tasks may draw while they load, and lm-eval draws for every name it reads.
    """
    names = settings.tasks
    manager = _choose_task_manager(settings)
    for name in [name for name in names if name != OWN_TASK]:
        _refuse_unsupported(manager, name)
    try:
        loaded = _load(manager, names, settings)
    except (Exception, SystemExit) as error:  # a task's own code runs here, and raises what it likes
        for name in names if len(names) > 1 else ():
            _load_single(manager, name, settings)
        raise _refuse_load(names, error) from error
    for task in loaded["tasks"].values():
        _refuse_lacking(task)
    return loaded


def _load(manager: Any, names: Sequence[str], settings: EvaluationConfig) -> dict[str, Any]:
    from sweeplab.evaluation.judged_task import make_judged_task
    from sweeplab.evaluation.own_task import make_own_task

    make_own = make_judged_task if settings.score == "judge" else make_own_task
    tasks = [
        make_own(settings) if name == OWN_TASK else deepcopy(WORLD_TASKS.get(name, name)) for name in names
    ]  # a copy: `_configure_task` writes into it
    loaded: dict[str, Any] = manager.load(tasks)
    return loaded


def _load_single(manager: Any, name: str, settings: EvaluationConfig) -> None:
    """Raises `ConfigError` where this task is one that cannot be loaded."""
    try:
        _load(manager, [name], settings)
    except (Exception, SystemExit) as error:
        raise _refuse_load([name], error) from error


def _refuse_load(names: Sequence[str], error: BaseException) -> ConfigError:
    """What stands in the way of loading these tasks, in one line."""
    if isinstance(error, ConfigError):  # of a file in `data_dir`
        return error
    where, what = f"evaluation.tasks=[{', '.join(names)}]", describe_error(error)
    if isinstance(error, ConnectionError):
        return ConfigError(
            f"{where} needs data of the hub, which cannot be reached: {error}; give their files with "
            "evaluation.data_dir=DIR (conf/evaluation/lora_insights.yaml has the format)"
        )
    if isinstance(error, ImportError):
        return ConfigError(f"{where} needs a package that is not installed: {what}; install it, or drop the task")
    if what.startswith("Duplicate task"):
        return ConfigError(f"{where} must have every task once: {what}; drop one of the two")
    return _refuse_task(where, error)


def _refuse_task(where: str, error: BaseException) -> ConfigError:
    what = describe_error_with_kind(error)
    return ConfigError(
        f"{where} cannot be used, since lm-eval or the task's own code fails: {what}; drop the task, or give other "
        "data with evaluation.data_dir=DIR (conf/evaluation/lora_insights.yaml has the format)"
    )


def _list_configurations(manager: Any, name: str) -> Iterator[dict[str, Any]]:
    """The configurations of a task, or of all in a group or tag, before any code that they refer to has run."""
    entry = manager.task_index.get(name)
    if entry is None:
        return
    yield entry.cfg or {}
    parts = (entry.cfg or {}).get("task") if entry.kind.name == "GROUP" else sorted(entry.tags - {name})
    if entry.kind.name in ("GROUP", "TAG") and isinstance(parts, list):
        for part in parts:
            if isinstance(part, dict):
                yield part
            reference = part if isinstance(part, str) else part.get("task", part.get("group"))
            if isinstance(reference, str):
                yield from _list_configurations(manager, reference)


def _refuse_unsupported(manager: Any, name: str) -> None:
    """Raises `ConfigError` for what is not scored here: code that a model has written, images and sound."""
    for config in _list_configurations(manager, name):
        task = config.get("task", name)
        if config.get("unsafe_code"):
            raise refuse("evaluation.tasks", "must not run code that a model has written", task, _REMEDY)
        if config.get("doc_to_image") or config.get("doc_to_audio"):
            raise refuse("evaluation.tasks", "must be of text, without images or sound", task, _REMEDY)


def _refuse_lacking(task: Any) -> None:
    """Raises `ConfigError` for a task that was loaded without one of its metrics, or marks itself as unsupported."""
    if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
        raise refuse("evaluation.tasks", "must be of text, and run no code of a model's", task.task_name, _REMEDY)
    metrics = getattr(task, "_metric_fn_list", {})
    for name in [name for name, function in metrics.items() if function is None] if _has_own_results(task) else []:
        rule = f"has the metric {name}, which lm-eval takes from Hugging Face's hub and cannot get"
        raise refuse("evaluation.tasks", rule, task.task_name, _REMEDY)
    for name in [name for name, function in task.aggregation().items() if function is None]:
        raise refuse("evaluation.tasks", f"cannot aggregate the metric {name}", task.task_name, _REMEDY)


def _has_own_results(task: Any) -> bool:
    """True where lm-eval computes an item's metrics by their functions; False where the task's own code does."""
    return task.get_config("output_type") == "generate_until" and task.get_config("process_results") is None


def build_requests(
    loaded: dict[str, Any], settings: EvaluationConfig, samples: dict[str, list[int]] | None, lm: Any
) -> None:
    """Every task as `settings` want it, with what it asks of the model. Raises `ConfigError`.

    lm-eval sets all tasks before it builds the first one's requests. `samples` are as in `choose_samples`.
    """
    for task in loaded["tasks"].values():
        _configure_task(task, settings)
    for name, task in loaded["tasks"].items():
        try:
            task.build_all_requests(
                samples=(samples or {}).get(name),
                system_instruction=settings.system_instruction,
                apply_chat_template=settings.apply_chat_template,
                fewshot_as_multiturn=settings.apply_chat_template,
                chat_template=lm.apply_chat_template if settings.apply_chat_template else None,
                tokenizer_name=lm.tokenizer_name if settings.apply_chat_template else "",
            )
        except (Exception, SystemExit) as error:  # a task's own code and templates run here, too
            raise _refuse_task(f"evaluation.tasks=[{name}]", error) from error
        _refuse_long_answers(name, task, lm)
        task.build_all_requests = lambda **_: None  # `evaluate` would build them again for every trial
        task.apply_filters, task.process_results = _name_task(name, task.apply_filters, task.process_results)


def _refuse_long_answers(name: str, task: Any, lm: Any) -> None:
    """Raises `ConfigError` where the model has no room for a question beside the answer, which lm-eval asserts."""
    from lm_eval.models.utils import normalize_gen_kwargs

    asked = [request.args[1] for request in task.instances if request.request_type == "generate_until"]
    if any("custom_generate" in one for one in asked):
        rule = "must not name custom_generate, whose code transformers would load and run"
        raise refuse("evaluation.tasks", rule, name, _REMEDY)
    longest = max((normalize_gen_kwargs(one, lm.max_gen_toks)["max_gen_toks"] for one in asked), default=0)
    if longest >= lm.max_length:
        raise refuse(
            "evaluation.tasks",
            f"must leave room for the question: the task lets a model of {lm.max_length} tokens write {longest}",
            name,
            f"give evaluation.gen_kwargs={{max_gen_toks: {lm.max_length // 4}}}, or drop the task",
        )


def _name_task(name: str, *methods: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The methods of a task such that what its own code raises becomes a `TaskError` that names it."""

    def guard(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except (Exception, SystemExit) as error:
                raise TaskError(f"{name} cannot score an answer: {describe_error_with_kind(error)}") from error

        return run

    return [guard(method) for method in methods]


def _configure_task(task: Any, settings: EvaluationConfig) -> None:
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
    return all(_is_comparison(task) for task in loaded["tasks"].values())


def _is_comparison(task: Any) -> bool:
    from lm_eval.api.task import ConfigurableTask

    from sweeplab.evaluation.own_task import OwnTask

    if type(task) is not ConfigurableTask and not isinstance(
        task, OwnTask
    ):  # what a task that is code of its own asks, it alone knows
        return False
    return task.get_config("output_type") == "generate_until" or (
        task.get_config("output_type") == "multiple_choice"
        and task.get_config("process_results") is None
        and all(metric["metric"] in _COMPARISONS for metric in task.get_config("metric_list") or [{"metric": "other"}])
    )
