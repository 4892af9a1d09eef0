"""lm-eval's tasks on files: its own prompts, metrics and few-shot examples, with nothing but the data replaced."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, Final

from sweeplab.runtime.errors import ConfigError
from sweeplab.runtime.paths import expand_home

_TRUTHFULQA: Final = "truthfulqa_mc.jsonl"
FILES: Final = {  # of tasks whose files are not called <task>_<split>.jsonl
    "truthfulqa_mc1": _TRUTHFULQA,
    "truthfulqa_mc2": _TRUTHFULQA,
    "arithmetic_2ds": "two_digit_subtraction.jsonl",
    "arithmetic_4ds": "four_digit_subtraction.jsonl",
    "blimp_causative": "blimp_causative.jsonl",
}
FIELDS: Final = {  # what lm-eval's prompts read, of the tasks that `evaluation=lora_insights` names
    "truthfulqa_mc1": ("question", "mc1_targets"),
    "truthfulqa_mc2": ("question", "mc2_targets"),
    "arithmetic_2ds": ("context", "completion"),
    "arithmetic_4ds": ("context", "completion"),
    "blimp_causative": ("sentence_good", "sentence_bad"),
    "mmlu_global_facts": ("question", "choices", "answer"),
}


def _read_rows(path: Path, task: str) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines. Raises `ConfigError` naming file, line and task."""
    where = f"evaluation.data_dir: {path}"
    if not path.is_file():
        raise ConfigError(f"{where}, which {task} reads, is missing; conf/evaluation/lora_insights.yaml has the format")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{where}, line {number}, is no JSON: {error}; write one object a line") from error
        fields = FIELDS.get(task, ())
        if not isinstance(row, dict) or any(name not in row for name in fields):
            raise ConfigError(f"{where}, line {number}, must be an object that has {', '.join(fields)} for {task}")
        rows.append(row)
    if not rows:
        raise ConfigError(f"{where}, which {task} reads, is empty; write one object a line")
    return rows


def fingerprint_files(folder: Path) -> str:
    """SHA-256 over names and contents of a folder's JSON lines."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.jsonl")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


class _TaskSplits(dict[str, Any]):
    """A task's splits by lm-eval's names, each read from its file when lm-eval first asks for it."""

    def __init__(self, task: str, folder: Path) -> None:
        super().__init__()
        self.task = task
        self.folder = folder

    def __missing__(self, split: str) -> Any:
        from datasets import Dataset

        path = self.folder / FILES.get(self.task, f"{self.task}_{split}.jsonl")
        self[split] = Dataset.from_list(_read_rows(path, self.task))
        return self[split]


def read_tasks_from_files(manager: Any, folder: str) -> Any:
    """Lets `manager` build its tasks, those within groups too, on the files in `folder`."""
    from lm_eval.tasks._factory import TaskFactory
    from lm_eval.tasks._index import Kind

    class FileFactory(TaskFactory):  # type: ignore[misc]
        """lm-eval has no hook between a task's configuration and its download, which building a task begins with."""

        def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
            config: dict[str, Any] = super()._load_full_config(entry, overrides)
            if entry.kind is Kind.GROUP or "custom_dataset" in config:
                return config
            if "class" in config:
                raise ConfigError(
                    f"evaluation.data_dir does not go with {entry.name}, whose data lm-eval loads by code of its own; "
                    "leave it null, or leave the task out"
                )
            made = partial(_make_splits, config["task"], expand_home(folder))
            return config | {"custom_dataset": made, "dataset_kwargs": None}

    manager._factory = FileFactory(meta=manager.metadata)
    return manager


def _make_splits(task: str, folder: Path, **_: Any) -> _TaskSplits:
    """What lm-eval calls with the task's metadata to get its data."""
    return _TaskSplits(task, folder)
