"""Names of tasks and of their metrics, refused before anything is trained where they are known not to exist."""

import re
import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sweeplab.builtin.digits import DIGITS_TASKS
from sweeplab.builtin.world import SKILLS, TARGETS
from sweeplab.config.evaluation import OWN_TASK, EvaluationConfig
from sweeplab.config.included import list_names, list_unread
from sweeplab.records.metrics import METRICS, known_metric, score_parts, split_filter
from sweeplab.runtime.errors import ConfigError, refuse

OWN_METRICS: Final = {  # of the tasks that come with sweeplab, each one's only metric
    **{f"tiny_{skill}": "exact_match" for skill in (*SKILLS, *TARGETS)},
    **{f"tiny_{skill}_choice": "acc" for skill in (*SKILLS, *TARGETS)},
    **dict.fromkeys(DIGITS_TASKS, "accuracy"),
}
TASK: Final = re.compile(r"^ *(?:task|group): *[\"']?([\w.-]+)", re.MULTILINE)


def check_metric(key: str, metric: str) -> None:
    """Refuses what no record has, and what a task that comes with sweeplab does not measure. Raises `ConfigError`.

    The metrics of lm-eval's own tasks are known only to lm-eval.
    """
    if not known_metric(metric):
        known = ", ".join((*METRICS, "scores.<task>.<metric>"))
        raise refuse(key, "must name metrics of a record", metric, f"choose from {known}")
    if metric in METRICS:
        return
    task, name = score_parts(metric)
    if "," in name:
        written = "@".join(part for part in split_filter(name) if part)
        raise refuse(key, "has @ before the name of a filter", metric, f"use scores.{task}.{written}")
    own = OWN_METRICS.get(task, name)
    if name != own:
        raise refuse(key, f"must name what {task} measures", metric, f"use scores.{task}.{own}")


def check_objectives(objectives: list[str], asked: EvaluationConfig) -> None:
    """Refuses a study without objectives, and as `check_measured`. Raises `ConfigError`."""
    if not objectives:
        raise ConfigError("study.objectives is empty; try study.objectives=[heldout_loss_nats_per_token]")
    check_measured("study.objectives", objectives, asked)


def check_measured(key: str, metrics: list[str], asked: EvaluationConfig) -> None:
    """Refuses metrics that no trial that is scored as `asked` will have. Raises `ConfigError` naming `key`.

    Which tasks a group or a tag stands for only lm-eval's index tells, which takes ten seconds to make: a worker checks
    metrics of these once it has scored the base.
    """
    for metric in metrics:
        check_metric(key, metric)
        if metric in METRICS:
            continue
        task, name = score_parts(metric)
        if task == OWN_TASK and OWN_TASK in asked.tasks:
            if name not in asked.own_metrics:
                remedy = f"use scores.{OWN_TASK}.{asked.own_metrics[0]}"
                raise refuse(key, f"must name what evaluation.score={asked.score} measures", metric, remedy)
            continue
        is_own, folder = task in OWN_METRICS or task == OWN_TASK, asked.include_path
        if not (task in asked.tasks if is_own else any(_may_measure(one, task, folder) for one in asked.tasks)):
            raise refuse(
                key,
                f"must name what evaluation.tasks=[{', '.join(asked.tasks)}] measures",
                metric,
                _propose_metric(key, asked.tasks),
            )


def _propose_metric(key: str, tasks: list[str]) -> str:
    """What to type where a metric is of a task that is not asked for."""
    line = f"type {shlex.quote(f'{key}=[heldout_loss_nats_per_token]')}"
    return f"{line}, or name one as scores.{tasks[0]}.METRIC" if tasks else line


def _may_measure(name: str, task: str, folder: str | None) -> bool:
    """True where `name`, of `evaluation.tasks`, is `task` or may stand for it: a group, or a tag."""
    included = list_names(folder) if folder is not None else []
    is_group = name in included or not _is_single(name)
    return task.startswith(name) or (
        name not in OWN_METRICS and is_group and (task in included or not stands_nowhere(task))
    )


@cache
def _is_single(name: str) -> bool:
    """True where a file of lm-eval defines `name` as a task of its own, and none as a group."""
    single = re.compile(rf"^task: *[\"']?{re.escape(name)}[\"']?\s*$", re.MULTILINE)
    group = re.compile(rf"^group: *[\"']?{re.escape(name)}[\"']?\s*$", re.MULTILINE)
    texts = [text for text in task_files() if name in text]
    return any(map(single.search, texts)) and not any(map(group.search, texts))


@cache
def task_files() -> tuple[str, ...]:
    """The text of every file that defines tasks, groups or tags of lm-eval; of none where it is not installed.

    9 MB, read once: to find and read 15,000 files takes half a second, and each name of a task is looked for in them.
    """
    package = find_spec("lm_eval")
    if package is None or package.origin is None:
        return ()
    paths = (Path(package.origin).parent / "tasks").rglob("*")  # what other files include has any ending
    named = (path for path in paths if path.suffix not in (".py", ".pyc") and path.is_file())
    return tuple(path.read_text(encoding="utf-8", errors="replace") for path in named)


@cache
def stands_nowhere(name: str) -> bool:
    """True where lm-eval is here and none of its task files has `name` as a word, so that it can be no task.

    lm-eval's own index would take 10 seconds.
    """
    word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    return any(task_files()) and not any(name in text and word.search(text) for text in task_files())


def check_task_names(tasks: Iterable[str], folder: str | None = None) -> None:
    """Raises `ConfigError` for a task that neither sweeplab, nor lm-eval, nor `evaluation.include_path` can have."""
    included = list_names(folder) if folder is not None else []
    for name in tasks:
        is_own = name in OWN_METRICS or name == OWN_TASK
        if is_own and name in included:
            raise refuse("evaluation.include_path", "must not name a task as sweeplab does", name, "rename it there")
        if not is_own and name not in included and stands_nowhere(name):
            raise _refuse_name(name, folder, included)


def _refuse_name(name: str, folder: str | None, included: list[str]) -> ConfigError:
    """The refusal of an unknown task, with those of lm-eval and of the folder that are nearest."""
    there = {found for text in task_files() for found in TASK.findall(text)}
    near = get_close_matches(name, sorted(there | set(included)), 1 if folder is None else 3, 0.6)
    rule = "must name lm-eval tasks, or sweeplab's own"
    remedy = f"did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` lists them"
    if folder is not None:
        rule = f"must name lm-eval tasks, sweeplab's own, or those of evaluation.include_path={folder}"
        unread = [f"{one} (passed over)" for one in list_unread(folder)]
        remedy = "; ".join([remedy if near else f"it has {', '.join(included) or 'none'}", *unread[:2]])
    return refuse("evaluation.tasks", rule, name, remedy)
