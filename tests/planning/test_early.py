"""What the driver can tell by looking is refused before a worker starts, or torch is imported."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.hostile import answer
from tests.study_runs import QUICK

PYTHON = sys.executable
CHAT = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}."}] * 2}
    for n in range(4)
]


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a worker, or another process of Python's, has gone too far."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)))


def make_model(folder: Path, *, tokenizer: bool = True, template: bool = False, index: bool = False) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"\0" * 16)
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}")
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"} if template else {}))
    if index:
        parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))


def refused(folder: Path, *overrides: str) -> str:
    found = answer([*QUICK, *overrides], folder)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1), found.err
    return found.err.removeprefix("sweeplab: ").rstrip("\n")


def test_messages_for_a_model_without_a_chat_template(tmp_path: Path) -> None:
    write_rows(tmp_path / "chat.jsonl", CHAT)
    make_model(tmp_path / "base")
    for model, name in (("tiny", "tiny"), ("base", "base")):
        said = refused(tmp_path, f"model={model}", "data=chat.jsonl", "data.style=template")
        assert said == (
            f"data.style=template needs a tokenizer with a chat template, and model={name} has none; "
            "write data.style=chatml"
        )


def test_a_conversation_in_a_style_for_one_question(tmp_path: Path) -> None:
    write_rows(tmp_path / "chat.jsonl", CHAT)
    said = refused(tmp_path, "data=chat.jsonl")
    assert said.startswith("data.style=alpaca writes one question and its answer, and chat.jsonl, line ")
    assert said.endswith("write data.style=template, the model's chat template, or data.style=chatml")


def test_a_record_that_is_wrong(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"q": "a", "reply": "b"}] * 3)
    assert "data.instruction_field=q data.output_field=reply" in refused(tmp_path, "data=rows.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n{"instr')
    assert "rows.jsonl, line 2: not valid JSON" in refused(tmp_path, "data=rows.jsonl")


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"tokenizer": False}, "must hold a tokenizer, got base; copy tokenizer.json"),
        ({"index": True}, "must hold the 2 parts of its weights, and model-00001-of-00002.safetensors and 1 more are "),
    ],
)
def test_a_model_s_folder_that_is_not_whole(given: dict[str, bool], rule: str, tmp_path: Path) -> None:
    make_model(tmp_path / "base", **given)
    assert refused(tmp_path, "model=base").startswith(f"model.path {rule}")


def test_weights_that_git_lfs_has_not_fetched(tmp_path: Path) -> None:
    make_model(tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert refused(tmp_path, "model=base").endswith("got base; fetch it: git lfs pull")


def test_a_task_s_file_that_is_missing(tmp_path: Path) -> None:
    said = refused(
        tmp_path, "evaluation=lora_insights", "evaluation.data_dir=.", "study.objectives=[scores.truthfulqa_mc2.acc]"
    )
    assert said.startswith("evaluation.data_dir: truthfulqa_mc.jsonl, which truthfulqa_mc1 reads, is missing; ")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("reports", ()), ("exports", ("action=recommend", "export=true"))],
)
def test_a_folder_for_the_end_of_the_study_that_cannot_be_made(
    name: str, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / name).write_text("in the way")
    quick = [one for one in QUICK if not overrides or not one.startswith("study.seeds")]
    found = answer([*quick, *overrides], tmp_path)
    assert (found.code, found.out) == (2, "")
    assert "cannot be created: " in found.err
    assert f"{name} is a file; choose another folder (study.runs_dir, study.reports_dir or export.path)\n" in found.err


def test_what_somebody_else_put_into_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    make_model(tmp_path / "base", tokenizer=False)
    os.mkfifo(tmp_path / "base" / "other.safetensors")
    with (tmp_path / "base" / "model.safetensors.index.json").open("wb") as file:
        file.truncate(2**33)  # never read
    assert refused(tmp_path, "model=base").startswith("model.path must hold a tokenizer")


def test_it_needs_no_torch() -> None:
    program = "import sys, sweeplab.planning.early; print({'torch', 'transformers', 'lm_eval'} & sys.modules.keys())"
    done = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
