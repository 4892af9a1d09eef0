"""The ten tasks can be solved by their reference commands, and their checks refuse what does not solve them."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.shown_commands import check_command
from tests.study_runs import run_cli
from tests.tasks.checks import BROKEN, TASKS, prepare, score
from tests.tasks.score import main

PAGE = Path(__file__).parent / "README.md"


def test_the_page_has_every_task() -> None:
    numbers = re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number in numbers] == [task.number for task in TASKS]


def test_an_untouched_folder_solves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(tmp_path)]) == 0
    assert [number for number, lack in score(tmp_path).items() if lack is None] == []
    assert main(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 10"
    assert main(["solve"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "number"),
    [
        ("1.txt", "8,192", 1),
        ("8.txt", "training.gradient_clip=0.5", 8),
        ("9.txt", BROKEN, 9),
        ("9.txt", BROKEN.replace("learning_rate", "optimizer.lr"), 9),
        ("9.txt", "python -m sweeplab study.name=mended optimizer.lr=1e-3 training.epochs=1 action=plan", 9),
        ("10.json", "{}", 10),
        ("10.json", "no JSON", 10),
    ],
)
def test_what_is_wrong_does_not_count(name: str, content: str, number: int, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert score(tmp_path)[number]


def test_what_is_only_written_counts(tmp_path: Path) -> None:
    for one in TASKS:
        for name, content in one.written.items():
            (tmp_path / name).write_text(content)
    lacking = score(tmp_path)
    assert {one.number for one in TASKS if one.written and lacking[one.number] is None} == {1, 8, 9}


def test_the_reference_commands_pass_the_checks_of_a_command_line(tmp_path: Path) -> None:
    prepare(tmp_path)
    for task in TASKS:
        for line in task.solution:
            words = [one.replace("=data.jsonl", f"={tmp_path}/data.jsonl") for one in shlex.split(line)]
            words = [one.replace("=questions.jsonl", f"={tmp_path}/questions.jsonl") for one in words]
            if words[0] != "--help":
                check_command(words, tmp_path)


@pytest.mark.slow  # five small studies
@pytest.mark.timeout(1800)
def test_the_reference_commands_solve_all_ten(tmp_path: Path) -> None:
    prepare(tmp_path)
    first = {}
    for task in TASKS:
        for line in task.solution:
            done = run_cli(tmp_path, *shlex.split(line))
            assert done.returncode == 0, (task.name, done.stderr)
        for name, content in task.written.items():
            (tmp_path / name).write_text(content)
        if task.saved_as is not None:
            json.loads(done.stdout)
            (tmp_path / task.saved_as).write_text(done.stdout)
        if task.name == "plan":
            rows = json.loads((tmp_path / "runs" / "counted" / "plan.json").read_text())["rows"]
            assert [row["num_trainable_params"] for row in rows] == [8_192, 32_768]
        if task.name == "run":
            first = score(tmp_path)
    assert {number for number, lack in first.items() if lack is None} == {1, 2}
    assert {number: lack for number, lack in score(tmp_path).items() if lack} == {}
