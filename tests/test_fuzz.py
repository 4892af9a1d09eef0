"""Whatever is typed, and whatever a data file holds: exit code 0, or 2 with one line, in time, and never a traceback.

A quick share runs by default; `pytest -m slow tests/test_fuzz.py` runs the thousands.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, suppress
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest
from hydra import initialize_config_dir
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from sweeplab.cli.errors import exit_with_line
from sweeplab.config.compose import trial_config
from sweeplab.config.conf import CONF
from tests.hostile import (
    CHATS,
    INTERPOLATIONS,
    OWN,
    ROWS,
    SECRET,
    Answer,
    answer,
    as_text,
    commands,
    damaged_files,
    leaked,
    own_experiments,
    said,
    stream,
)
from tests.hostile_folders import DAMAGES, Outcome, discard, leave_whole, make_folder, read_in_fork
from tests.models.folders import copy_base

QUICK: Final = 8
THOUSANDS: Final = 2000
FOLDERS: Final = 15  # of damaged models, in the quick share: one of every damage
SECONDS: Final = 3  # of processor time to read one; most take half of one
MOST_WAIT: Final = 200.0  # for a folder, on a machine that others use too
DRY: Final = ("quantization=none", "tracking=none", "evaluation=none", "action=plan")
OWN_QUICK: Final = 8
CHAT: Final = ("data.messages_field=messages", "data.style=chatml")


def fuzzing(most: int, derandomize: bool) -> settings:
    return settings(
        max_examples=most,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


answered: Final[list[float]] = []  # processor seconds of every answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("fuzz")
    print(json.dumps({"inputs": len(answered), "slowest in seconds": max(answered, default=None)}))


def check(one: Answer) -> None:
    """A plan, or one line; nothing of the environment."""
    answered.append(one.seconds)
    assert one.code in (0, 2), one
    assert SECRET not in one.out + one.err
    if one.code == 0:
        assert one.err == ""
    else:
        assert one.out == ""
        assert one.err.startswith("sweeplab: ")
        assert one.err.endswith("\n")
        assert one.err.count("\n") == 1, one.err


def check_command(command: list[str], folder: Path) -> None:
    check(answer([*command, "tracking=none", "action=plan"], folder))
    assert leaked(folder) == []


def check_file(data: bytes, folder: Path) -> None:
    (folder / "data.json").write_bytes(data)
    chat = CHAT if b"messages" in data else ()
    check(answer([*DRY, "data=json", "data.path=data.json", *chat], folder))


@fuzzing(QUICK, derandomize=True)
@given(commands)
@example(["adapter.rank=" + "[" * 900])
@example(["space.optimizer={low: 0, high: 2}"])
@example(["space.adapter={choices: [0]}"])
@example(["adapter=bitfit"])
@example(["study.question=\udcff"])
@example(["a\nb"])
def test_any_command_is_answered(folder: Path, command: list[str]) -> None:
    check_command(command, folder)


@fuzzing(QUICK, derandomize=True)
@given(damaged_files())
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(as_text([*ROWS, {"instruction": "\ud800", "output": "x"}], lines=True))
def test_any_data_file_is_answered(folder: Path, data: bytes) -> None:
    check_file(data, folder)


def check_experiment(data: bytes, folder: Path, action: str) -> None:
    (folder / "own" / "experiment").mkdir(parents=True, exist_ok=True)
    (folder / "own" / "experiment" / "mine.yaml").write_bytes(data)
    check(
        answer(["--config-dir=own", "+experiment=mine", "tracking=none", "action=plan", "study.runs_dir=runs"], folder)
    )
    assert leaked(folder) == []


@fuzzing(OWN_QUICK, derandomize=True)
@given(own_experiments())
@example(b"# @package _global_\nspace:\n\tadapter: 1\n")
@example(b"# @package _global_\nstudy:\n  seeds: [0]\n  seeds: [1]\n")
@example(b"# @package _global_\nstudy:\n  seeds: [0,\n")
@example("# @package _global_\nstudy:\n  question: caf\xe9\n".encode("latin-1"))
@example(b"\xef\xbb\xbf# @package _global_\r\nstudy:\r\n  seeds: [0]\r\n")
@example(b"# @package _global_\nspace: &a {x: *a}\n")
@example(b"# @package _global_\nspace: " + b"[" * 5000)
@example(b"# @package _global_\nspace: {? [1] : 2}\n")
@example(b"# @package _global_\nstudy: !!python/object/apply:os.system [true]\n")
@example(b"# @package _global_\nstudy: {question: !!binary aGk=}\n")
@example(b"# @package _global_\ndefaults: {a: b}\n")
@example(b"# @package _global_\ndefaults:\n  - override /optimizer: [sgd]\n")
@example(b"# @package _global_\ndefaults:\n  - 3\n")
@example(b"# @package _global_\nhydra: {run: {dir: 3}}\n")
@example(b"")
def test_any_experiment_of_ones_own_is_answered(folder: Path, data: bytes) -> None:
    check_experiment(data, folder, "report")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@fuzzing(THOUSANDS, derandomize=False)
@given(own_experiments())
def test_thousands_of_experiments_of_ones_own_are_answered(folder: Path, data: bytes) -> None:
    check_experiment(data, folder, "plan")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@fuzzing(THOUSANDS, derandomize=False)
@given(commands)
def test_thousands_of_commands_are_answered(folder: Path, command: list[str]) -> None:
    check_command(command, folder)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@fuzzing(THOUSANDS, derandomize=False)
@given(damaged_files())
def test_thousands_of_data_files_are_answered(folder: Path, data: bytes) -> None:
    check_file(data, folder)


@pytest.mark.parametrize("rows", [ROWS, CHATS], ids=["records", "chats"])
@pytest.mark.parametrize("lines", [True, False], ids=["lines", "array"])
def test_the_undamaged_file_is_planned(rows: list[object], lines: bool, tmp_path: Path) -> None:
    """What the damaged ones are made from is in order, so that they are refused for their damage."""
    check_file(as_text(rows, lines), tmp_path)
    assert json.loads((tmp_path / "runs" / "single" / "plan.json").read_text())["rows"]


def test_the_undamaged_experiment_is_planned(tmp_path: Path) -> None:
    check_experiment(OWN, tmp_path, "plan")
    plan = json.loads((tmp_path / "runs" / "2026_07_15" / "plan.json").read_text())
    assert plan["rows"]


KEYS: Final = ("study.question", "model.path", "++space.adapter.rank.choices", "+optimizer.eps")
READING: Final = [one for one in INTERPOLATIONS if "oc.env:S" in one]


@pytest.mark.parametrize(("key", "value"), list(zip(cycle(KEYS), READING, strict=False)))
def test_the_environment_is_not_read(key: str, value: str, tmp_path: Path) -> None:
    refused = answer([f"{key}={value}", "tracking=none", "action=plan"], tmp_path)
    check(refused)
    assert refused.code == 2
    assert leaked(tmp_path) == []


@given(st.text(max_size=40))
@settings(max_examples=200, database=None, deadline=None, derandomize=True)
def test_a_refusal_is_one_line_of_what_can_be_seen(text: str) -> None:
    err = stream()
    with redirect_stderr(err), suppress(SystemExit):
        exit_with_line(text)
    line = said(err)
    assert line.endswith("\n")
    assert line[:-1].isprintable()


@pytest.fixture(scope="module")
def read_damaged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Outcome]:
    """What reading the damaged model folder of a seed comes to."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "data.json").write_text(json.dumps(ROWS))
    copy_base(folder / "model")
    data = ("data=json", f"data.path={folder / 'data.json'}", "quantization=none")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain, template = (
            trial_config(["model=local", f"model.path={folder / 'model'}", *data, f"data.style={style}"], {})
            for style in ("plain", "template")
        )

    def read(seed: int) -> Outcome:
        discard(folder / "model")
        damage = make_folder(folder / "model", seed)
        return read_in_fork(template if damage == "spoil_template" else plain, SECONDS, MOST_WAIT)

    return read


def check_folders(seeds: range, read_damaged: Callable[[int], Outcome]) -> None:
    """Each is read, refused in one line, or ended at its limit of time or memory, which is refused in one line too."""
    found = {seed: read_damaged(seed) for seed in seeds}
    print(json.dumps(Counter(outcome.kind for outcome in found.values())))
    assert [seed for seed, one in found.items() if one.kind in ("traceback", "hang")] == [], found
    assert [seed for seed, one in found.items() if not one.said.isprintable()] == []
    sound = [one for seed, one in found.items() if DAMAGES[seed % len(DAMAGES)] is leave_whole]
    assert {one.kind for one in sound} == {"read"}, sound  # else all could be refused for no damage of theirs


def test_any_model_folder_is_answered(read_damaged: Callable[[int], Outcome]) -> None:
    check_folders(range(FOLDERS), read_damaged)


@pytest.mark.slow
@pytest.mark.timeout(14400)
def test_thousands_of_model_folders_are_answered(read_damaged: Callable[[int], Outcome]) -> None:
    check_folders(range(FOLDERS, FOLDERS + THOUSANDS), read_damaged)
