"""Every file of conf/ begins with a command that uses it, and that command passes the checks of a study."""

import shlex
from pathlib import Path
from typing import Final

import pytest

from sweeplab.config.conf import CONF
from tests.shown_commands import check_command

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


def is_only_the_option(name: str, path: Path) -> bool:
    """True where the command gives nothing but the file's option."""
    group, _, option = name.rpartition("/")
    return split_command(read_heading(path))[0] == [*PROGRAM, f"{group}={option}"]


# slow: what test_conf.py composes and checks too, by the same words
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=name, marks=pytest.mark.slow if is_only_the_option(name, path) else ())
        for name, path in zip(NAMES, FILES, strict=True)
    ],
)
def test_the_command_passes_the_checks(path: Path, tmp_path: Path) -> None:
    words, _ = split_command(read_heading(path))
    check_command(words[len(PROGRAM) :], tmp_path)
