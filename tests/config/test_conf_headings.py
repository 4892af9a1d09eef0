"""Every file of conf/ begins with a command that uses it, and that command passes the checks of a study."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hydra import compose, initialize_config_dir

from sweeplab.config.compose import CONF, to_study_config
from sweeplab.config.study import register

FILES: Final = sorted(CONF.rglob("*.yaml"))
NAMES: Final = [str(path.relative_to(CONF).with_suffix("")) for path in FILES]
PROGRAM: Final = ["python", "-m", "sweeplab"]


def read_heading(path: Path) -> list[str]:
    """The comment lines at the top of a file, without their marks and without Hydra's own line."""
    lines = path.read_text().splitlines()
    top = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    return [line.removeprefix("#").strip() for line in top if not line.startswith("# @package")]


def split_command(heading: list[str]) -> tuple[list[str], list[str]]:
    """The words of a heading's first command, continued after a backslash, and the lines that follow it."""
    command = heading[0]
    for number, line in enumerate(heading[1:], 1):
        if not command.endswith("\\"):
            return shlex.split(command), heading[number:]
        command = f"{command[:-1]} {line}"
    return shlex.split(command), []


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What a reader puts in the place of DIR, FILE and the like."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("")
    for name, question in (("a.json", "a"), ("b.jsonl", "b")):
        (tmp_path / name).write_text(json.dumps([{"instruction": question, "output": "c"}] * 2))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield {
            r"ORG/NAME": "org/name",
            r"export.path=DIR\b": f"export.path={tmp_path}/new",
            r"=DIR\b": f"={tmp_path}",
            r"path: (?=a\.json|b\.jsonl)": f"path: {tmp_path}/",
            r"=FILE\b": f"={tmp_path}/a.json",
            r"^space\.": "++space.",  # as the command line itself adds keys of the space
            r"\$\(hostname\)": "localhost",
        }


@pytest.mark.parametrize(("name", "path"), list(zip(NAMES, FILES, strict=True)), ids=NAMES)
def test_a_file_begins_with_a_command_that_names_it(name: str, path: Path) -> None:
    words, text = split_command(read_heading(path))
    group, _, option = name.rpartition("/")
    assert words[:3] == PROGRAM
    if group == "experiment":
        assert words[3:] == [f"+experiment={option}"]
    elif option == "default":
        assert any(word.startswith(f"{group}.") for word in words)
    elif group:
        assert words[3] == f"{group}={option}"
    assert text, "then what it is"


@pytest.mark.parametrize(("name", "path"), list(zip(NAMES, FILES, strict=True)), ids=NAMES)
def test_the_command_passes_the_checks(name: str, path: Path, stand_ins: dict[str, str]) -> None:
    register()
    words, _ = split_command(read_heading(path))
    overrides = words[3:]
    for mark, value in stand_ins.items():
        overrides = [re.sub(mark, value, one) for one in overrides]
    to_study_config(compose("config", overrides=overrides), "single")
