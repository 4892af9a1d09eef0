"""Scores equal lm-eval's own to the last digit: by its functions as its command line calls them, and by that itself."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from sweeplab.evaluation.catalog import load_tasks, make_task_manager
from sweeplab.evaluation.files import _FIELDS, _FILES, fingerprint_files
from sweeplab.evaluation.results import _read_scores
from sweeplab.models.base import Base
from sweeplab.records.record import Score
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import SOURCES, evaluated, settings, task_folder, with_adapter
from tests.trials import Compose

LIMIT: Final = 3
BATCH: Final = 8
Scores = dict[str, dict[str, Score]]


def own_scores(model: Any, tokenizer: Any, folder: Path, **options: Any) -> tuple[Scores, dict[str, Any]]:
    """lm-eval's scores and samples, by what its command line calls."""
    found: Any = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCH),
        tasks=[path.stem for path in sorted(folder.glob("*.yaml"))],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        limit=LIMIT,
        bootstrap_iters=1000,
        **options,
    )
    return _read_scores(found["results"], found["n-samples"]), found["samples"]


# slow: the base by itself, on which the adapter stands
@pytest.fixture(params=[pytest.param("base", marks=pytest.mark.slow), "adapter"])
def model(request: pytest.FixtureRequest, stories: Base) -> Any:
    return with_adapter(deepcopy(stories.model)) if request.param == "adapter" else stories.model


def test_the_group_names_the_six(compose_trial: Compose) -> None:
    assert set(compose_trial("evaluation=lora_insights").evaluation.tasks) == set(SOURCES) == set(_FIELDS)


def test_scores_and_items_equal_those_of_lm_eval(model: Any, stories: Base, shared_data: Path, tmp_path: Path) -> None:
    tasks = sorted(SOURCES)
    data = shared_data / "eval"
    expected, samples = own_scores(model, stories.tokenizer, task_folder(tmp_path, tasks, data), num_fewshot=2)
    asked = settings(*tasks, limit=LIMIT, batch_size=BATCH, num_fewshot=2, data_dir=str(data))
    found = evaluated(model, stories.tokenizer, asked)
    assert found.scores == expected
    assert {row["task"]: row["metrics"] for row in found.items}.keys() == set(tasks)
    for task in tasks:
        rows = [row for row in found.items if row["task"] == task]
        assert [row["responses"] for row in rows] == [
            [str(one) for one in it["filtered_resps"]] for it in samples[task]
        ]
        assert [row["metrics"]["acc"] for row in rows] == [float(sample["acc"]) for sample in samples[task]]


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True])
def test_scores_equal_those_of_the_command_line(
    adapted: bool, stories: Base, shared_data: Path, tmp_path: Path
) -> None:
    tasks, data, folder = sorted(SOURCES), shared_data / "eval", tmp_path / "tasks"
    folder.mkdir()
    task_folder(folder, tasks, data)
    model, arguments = stories.model, f"pretrained={shared_data / 'stories260K'},dtype=float32"
    if adapted:
        model = with_adapter(deepcopy(stories.model))
        model.save_pretrained(tmp_path / "adapter")
        arguments += f",peft={tmp_path / 'adapter'}"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", arguments]
    command += ["--tasks", ",".join(tasks), "--include_path", str(folder), "--limit", str(LIMIT), "--device", "cpu"]
    command += ["--batch_size", str(BATCH), "--num_fewshot", "2", "--output_path", str(tmp_path / "out.json")]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())})
    (path,) = tmp_path.glob("**/out*.json")
    written = json.loads(path.read_text())
    asked = settings(*tasks, limit=LIMIT, batch_size=BATCH, num_fewshot=2, data_dir=str(data))
    found = evaluated(model, stories.tokenizer, asked).scores
    assert found == _read_scores(written["results"], written["n-samples"])


def test_a_missing_file_is_named_with_its_task(tmp_path: Path) -> None:
    for task in _FILES:
        with pytest.raises(ConfigError, match=rf"{_FILES[task]}, which {task} reads, is missing"):
            load_tasks(settings(task, data_dir=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"mmlu_global_facts_dev.jsonl, which mmlu_global_facts reads, is missing"):
        load_tasks(settings("mmlu_global_facts", data_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"context": "Q:", "completion": " 1"}\n{"context"\n', "line 2, is not valid JSON"),
        ('{"context": "Q:"}\n', "line 1, must be an object that has context, completion for arithmetic_2ds"),
        ('{"context": "Q:", "context": " 1"}\n', "line 1, is not valid JSON: the field 'context' stands there twice"),
        ("[1]\n", "line 1, must be an object"),
        ("\n", "is empty"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "two_digit_subtraction.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_tasks(settings("arithmetic_2ds", data_dir=str(tmp_path)))


def test_a_tag_is_what_it_stands_for_and_reads_files_too(shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "eval" / "truthfulqa_mc.jsonl").read_text().splitlines()[:2]
    rows = [json.loads(line) | {"correct_answers": ["Yes"], "incorrect_answers": ["No"]} for line in lines]
    for name in ("truthfulqa_mc", "truthfulqa_gen_validation"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = make_task_manager(("truthfulqa",), str(tmp_path)).load(["truthfulqa"])["tasks"]
    assert {name: len(task.validation_docs()) for name, task in loaded.items()} == {
        "truthfulqa_gen": 2,
        "truthfulqa_mc1": 2,
        "truthfulqa_mc2": 2,
    }


def test_the_fingerprint_follows_names_and_contents(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    prints = [fingerprint_files(tmp_path)]
    for text in ("{}\n", "[]\n", "{}\n"):
        path.write_text(text)
        prints.append(fingerprint_files(tmp_path))
    path.rename(tmp_path / "b.jsonl")
    prints.append(fingerprint_files(tmp_path))
    assert prints[1] == prints[3]
    assert len(set(prints)) == 4
