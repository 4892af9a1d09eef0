"""`evaluation.include_path`: lm-eval's own numbers with `--include_path`, and no way to run code without a word."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import datasets
import pytest
import torch
from jinja2.exceptions import SecurityError
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from sweeplab.evaluation.catalog import load_tasks
from sweeplab.evaluation.files import fingerprint_tasks
from sweeplab.evaluation.results import _list_item_rows, _read_scores
from sweeplab.models.base import Base
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import evaluated, settings

ITEMS: Final = Path(__file__).parent / "kinds" / "items.jsonl"
COMMON: Final = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": str(ITEMS)}},
    "test_split": "test",
    "doc_to_text": "{{instruction}}\n{% if input %}{{input}}\n{% endif %}",
    "target_delimiter": "",
}
TASKS: Final[dict[str, dict[str, Any]]] = {
    "mine_written": {
        "output_type": "generate_until",
        "doc_to_target": "output",
        "num_fewshot": 1,
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "filter_list": [
            {"name": "whole", "filter": [{"function": "take_first"}]},
            {"name": "first", "filter": [{"function": "regex", "regex_pattern": "(\\w)"}, {"function": "take_first"}]},
        ],
    },
    "mine_choice": {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "tag": "mine_tag",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "brier_score"}, {"metric": "mcc"}],
    },
}
GROUP: Final = {
    "group": "mine_group",
    "task": ["mine_written", "mine_choice"],
    "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
}
ASKED: Final = ("mine_group",)


def write_tasks(folder: Path, **changes: Any) -> str:
    """JSON is YAML."""
    folder.mkdir(exist_ok=True)
    for name, task in TASKS.items():
        (folder / f"{name}.yaml").write_text(json.dumps({**COMMON, **task, "task": name, **changes}))
    (folder / "group.yaml").write_text(json.dumps(GROUP))
    return str(folder)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")  # a fork of a process with torch's threads may hang


def test_scores_errors_and_items_are_lm_evals(embedded_base: Base, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks")
    expected: Any = simple_evaluate(
        model=HFLM(pretrained=embedded_base.model, tokenizer=embedded_base.tokenizer, batch_size=4),
        tasks=list(ASKED),
        task_manager=TaskManager(include_path=folder, include_defaults=False),
        bootstrap_iters=20,
    )
    asked = settings(*ASKED, limit=None, batch_size=4, bootstrap_iters=20, include_path=folder)
    found = evaluated(embedded_base.model, embedded_base.tokenizer, asked)
    assert found.scores == _read_scores(expected["results"], expected["n-samples"])
    assert found.scores.keys() == {"mine_group", *TASKS}
    rows = [row for row in found.items if "group" not in row]
    wanted = _list_item_rows(expected["samples"], lambda task, metric: metric not in ("brier_score", "mcc"))
    assert rows == wanted
    assert found.scores["mine_written"]["exact_match@whole"].num_items == len(ITEMS.read_text().splitlines())


@pytest.mark.slow  # lm-eval's command line indexes all of its own tasks
def test_scores_and_items_are_those_of_the_command_line(embedded_base: Base, tmp_path: Path) -> None:
    model = tmp_path / "model"
    embedded_base.model.save_pretrained(model)
    embedded_base.tokenizer.save_pretrained(model)
    folder = write_tasks(tmp_path / "tasks")
    choice = TASKS["mine_choice"] | {"task": "mine_choice", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}
    Path(folder, "mine_choice.yaml").write_text(json.dumps(COMMON | choice))  # 100,000 resamples take minutes
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--include_path", folder, "--tasks", ASKED[0]]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
    command += ["--batch_size", "4", "--output_path", str(tmp_path / "out.json"), "--log_samples"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "DISABLE_MULTIPROC": "1"}
    subprocess.run(command, check=True, env=os.environ | threads | {"HF_DATASETS_CACHE": str(tmp_path / "hf")})
    (path,) = tmp_path.glob("**/out*.json")
    written = json.loads(path.read_text())
    asked = settings(*ASKED, limit=None, batch_size=4, bootstrap_iters=100_000, include_path=folder)
    found = evaluated(embedded_base.model, embedded_base.tokenizer, asked)
    assert found.scores == _read_scores(written["results"], written["n-samples"])
    for task in TASKS:
        (path,) = tmp_path.glob(f"**/samples_{task}_*.jsonl")
        samples = [json.loads(line) for line in path.read_text().splitlines()]
        samples.sort(key=lambda one: (one["filter"] != "whole", one["doc_id"]) if task == "mine_written" else 0)
        rows = [row for row in found.items if row.get("task") == task]
        rows.sort(key=lambda row: (row["filter"] != "whole", row["item"]) if task == "mine_written" else 0)
        assert [(row["item"], row["filter"]) for row in rows] == [(one["doc_id"], one["filter"]) for one in samples]
        for row, sample in zip(rows, samples, strict=True):
            assert row["metrics"] == {name: float(sample[name]) for name in row["metrics"]}


CODED: Final = "doc_to_text: !function utils.ask\n"
MARK: Final = (
    "from pathlib import Path\nPath(__file__).with_name('has_run').touch()\ndef ask(document):\n    return 'a'\n"
)


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    folder = Path(write_tasks(tmp_path / "tasks"))
    values = {**COMMON, **TASKS["mine_choice"], "task": "mine_coded"}
    del values["doc_to_text"]
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in values.items()]
    (folder / "coded.yaml").write_text("".join(lines) + CODED)
    (folder / "utils.py").write_text(MARK)
    return folder


def test_functions_of_the_folder_run_only_where_that_was_said(coded: Path) -> None:
    asked = settings("mine_coded", include_path=str(coded))
    with pytest.raises(ConfigError, match=r"coded\.yaml, line \d+, names the Python function utils\.ask, which would"):
        load_tasks(asked)
    load_tasks(settings("mine_choice", include_path=str(coded)))  # beside it
    assert not (coded / "has_run").exists()
    task = load_tasks(asked.replaced(include_code=True))["tasks"]["mine_coded"]
    assert (coded / "has_run").exists()
    assert task.doc_to_text({}) == "a"


def test_a_task_of_the_folder_in_a_group_of_lm_evals_own_is_guarded_too(coded: Path) -> None:
    """The folder's task takes the place of lm-eval's; no name that was asked for leads to its file."""
    from sweeplab.evaluation.included import forbid_code

    (coded / "other.yaml").write_text('{"group": "outer", "task": [{"task": "mine_coded"}]}')
    manager = forbid_code(TaskManager(include_path=str(coded), include_defaults=False))
    with pytest.raises(ConfigError, match=r"names the Python function utils\.ask"):
        manager.load(["outer"])
    assert not (coded / "has_run").exists()


ESCAPE: Final = "{{ ''.__class__.__mro__[1].__subclasses__() }}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric_list": [{"metric": "./script.py"}]}, r"task mine_\w+ has the metric \./script\.py, which is not lm-"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, r"has the metric acc, .* a script would be loaded"),
        ({"dataset_path": "pandas"}, r"has pickled data \(dataset_path: pandas\), which can run code; save them as"),
        ({"doc_to_text": ESCAPE}, r"SecurityError: access to attribute '__class__'"),
        ({"doc_to_target": ESCAPE}, r"SecurityError: access to attribute '__class__'"),
    ],
)
def test_other_ways_to_run_code_are_closed(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "tasks", **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_tasks(settings("mine_written", include_path=folder))
    assert "\n" not in str(caught.value)
    inline = {"group": "inline", "task": [{**COMMON, **TASKS["mine_written"], "task": "mine_new", **changes}]}
    (tmp_path / "tasks" / "inline.yaml").write_text(json.dumps(inline))
    with pytest.raises(ConfigError, match=message.replace(r"task mine_\w+", r"task \w+")):
        load_tasks(settings("inline", include_path=folder))


def test_templates_render_as_before_in_the_sandbox(tmp_path: Path) -> None:
    load_tasks(settings("mine_written", include_path=write_tasks(tmp_path / "tasks")))
    from lm_eval.utils import apply_template

    text = "{{ words | join(' ') | regex_replace('a', 'b') }}{% for one in words %} {{ loop.index }}{{ one.upper() }}"
    assert apply_template(text + "{% endfor %}\n", {"words": ["a", "ca"]}) == "b cb 1A 2CA\n"
    with pytest.raises(SecurityError):
        apply_template(ESCAPE, {})


def test_text_that_transformers_would_generate_by_code_of_a_repository_is_refused(
    embedded_base: Base, tmp_path: Path
) -> None:
    generation = {"until": ["\n"], "max_gen_toks": 4, "custom_generate": "org/repository", "trust_remote_code": True}
    folder = write_tasks(tmp_path / "tasks", generation_kwargs=generation)
    with pytest.raises(ConfigError, match=r"must not name custom_generate, whose code transformers would load and run"):
        evaluated(embedded_base.model, embedded_base.tokenizer, settings("mine_written", include_path=folder, limit=2))


def test_the_fingerprint_follows_every_file_of_the_tasks(coded: Path) -> None:
    asked = settings("mine_coded", include_path=str(coded))
    prints = [fingerprint_tasks(asked)]
    for name in ("coded.yaml", "utils.py", "unread.txt"):
        with (coded / name).open("a") as file:
            file.write("\n")
        prints.append(fingerprint_tasks(asked))
    assert len(set(prints)) == 3
    assert prints[2] == prints[3]
    assert fingerprint_tasks(settings("mine_coded")) is None
    assert fingerprint_tasks(asked.replaced(data_dir=str(coded))) not in prints
