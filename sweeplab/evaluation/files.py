"""lm-eval's tasks on data in files: prompts, metrics and few-shot examples stay lm-eval's own."""

import hashlib
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.included import list_read_files
from sweeplab.config.own_items import find_module
from sweeplab.runtime.errors import ConfigError
from sweeplab.runtime.paths import expand_home
from sweeplab.runtime.text_files import parse_json, read_text

_TRUTHFULQA: Final = "truthfulqa_mc.jsonl"
_FILES: Final = {  # file names of tasks whose files are not called <task>_<split>.jsonl
    "truthfulqa_mc1": _TRUTHFULQA,
    "truthfulqa_mc2": _TRUTHFULQA,
    "arithmetic_2ds": "two_digit_subtraction.jsonl",
    "arithmetic_4ds": "four_digit_subtraction.jsonl",
    "blimp_causative": "blimp_causative.jsonl",
}
_FIELDS: Final = {  # fields that lm-eval's prompts read, for the tasks of `evaluation=lora_insights`
    "truthfulqa_mc1": ("question", "mc1_targets"),
    "truthfulqa_mc2": ("question", "mc2_targets"),
    "arithmetic_2ds": ("context", "completion"),
    "arithmetic_4ds": ("context", "completion"),
    "blimp_causative": ("sentence_good", "sentence_bad"),
    "mmlu_global_facts": ("question", "choices", "answer"),
}


def refuse_missing_files(settings: EvaluationConfig) -> None:
    """Raises `ConfigError` where `evaluation.data_dir` lacks the file of a task whose file's name is known."""
    if settings.data_dir is None:
        return
    folder = expand_home(settings.data_dir)
    for task in [task for task in settings.tasks if task in _FIELDS]:
        name = _FILES.get(task, f"{task}_test.jsonl")
        if not (folder / name).is_file():
            raise _miss_file(folder / name, task)


def _miss_file(path: Path, task: str) -> ConfigError:
    where = f"evaluation.data_dir: {path}, which {task} reads, is missing"
    return ConfigError(f"{where}; conf/evaluation/lora_insights.yaml has the format")


def _read_rows(path: Path, task: str) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines. Raises `ConfigError` that names file, line and task."""
    where = f"evaluation.data_dir: {path}"
    if not path.is_file():
        raise _miss_file(path, task)
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} cannot be read as UTF-8 or UTF-16 text: {error}; save it in UTF-8") from error
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where}, line {number}, is not valid JSON: {error}; write one object a line") from error
        fields = _FIELDS.get(task, ())
        if not isinstance(row, dict) or any(name not in row for name in fields):
            raise ConfigError(f"{where}, line {number}, must be an object that has {', '.join(fields)} for {task}")
        rows.append(row)
    if not rows:
        raise ConfigError(f"{where}, which {task} reads, is empty; write one object a line")
    return rows


def fingerprint_files(folder: Path) -> str:
    """SHA-256 over names and contents of the `.jsonl` files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.jsonl")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def fingerprint_tasks(settings: EvaluationConfig) -> str | None:
    """SHA-256 over the files that the tasks are read from; None where all come from the hub or from sweeplab."""
    parts = []
    if settings.data_dir is not None:
        parts.append(fingerprint_files(expand_home(settings.data_dir)))
    if settings.include_path is not None:
        contents = sorted(
            hashlib.sha256(path.read_bytes()).hexdigest() for path in list_read_files(settings.include_path)
        )
        parts.append(f"sha256:{hashlib.sha256(' '.join(contents).encode()).hexdigest()}")
    if settings.path is not None:
        modules = [find_module(settings.own_function[0])] if settings.own_function is not None else []
        named = [expand_home(one) for one in (settings.path, settings.schema_path) if one is not None]
        contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (*named, *modules) if path is not None]
        parts.append(f"sha256:{hashlib.sha256(' '.join(contents).encode()).hexdigest()}")
    if len(parts) < 2:
        return parts[0] if parts else None
    return f"sha256:{hashlib.sha256(' '.join(parts).encode()).hexdigest()}"


class _TaskSplits(dict[str, Any]):
    """The splits of a task by lm-eval's names; each is read from its file when lm-eval first asks for it."""

    def __init__(self, task: str, folder: Path) -> None:
        super().__init__()
        self.task = task
        self.folder = folder

    def __missing__(self, split: str) -> Any:
        from datasets import Dataset

        path = self.folder / _FILES.get(self.task, f"{self.task}_{split}.jsonl")
        self[split] = Dataset.from_list(_read_rows(path, self.task))
        return self[split]


def read_tasks_from_files(manager: Any, folder: str) -> Any:
    """Changes `manager` so that it builds its tasks, also those of groups, on the files in `folder`; returns it."""
    from lm_eval.tasks._factory import TaskFactory
    from lm_eval.tasks._index import Kind

    class FileFactory(TaskFactory):  # type: ignore[misc]
        """Adds the data to a task's configuration. lm-eval downloads data while it builds a task, and has no other
        place where that can be prevented."""

        def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
            config: dict[str, Any] = super()._load_full_config(entry, overrides)
            if entry.kind is Kind.GROUP or "custom_dataset" in config:
                return config
            if "class" in config:
                raise ConfigError(
                    f"evaluation.data_dir does not go with {entry.name}, whose data lm-eval loads by code of its own; "
                    "leave it null, or leave the task out"
                )
            read_splits = partial(_make_splits, config["task"], expand_home(folder))
            if callable(config.get("process_docs")):
                config["process_docs"] = _process_once(config["process_docs"])
            return config | {"custom_dataset": read_splits, "dataset_kwargs": None}

    manager._factory = FileFactory(meta=manager.metadata)
    return manager


def _process_once(process: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A task's `process_docs` that gives a split the same documents every time.

    lm-eval calls it again for the answers. Where it draws, such as the order of choices, the data of the hub are kept
    by `datasets`, which it does not do for what is in memory.
    """
    kept: dict[int, tuple[Any, Any]] = {}  # by identity; with the split itself, so that no other one takes it

    @wraps(process)
    def process_docs(split: Any) -> Any:
        if id(split) not in kept:
            kept[id(split)] = (split, process(split))
        return kept[id(split)][1]

    return process_docs


def _make_splits(task: str, folder: Path, **_: Any) -> _TaskSplits:
    """The function that lm-eval calls, with a task's metadata, to get its data."""
    return _TaskSplits(task, folder)
