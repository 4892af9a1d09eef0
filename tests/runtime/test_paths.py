"""No record says whose machine it is: paths in the home folder begin with ~, and are found again."""

import subprocess
from pathlib import Path

import pytest

from sweeplab.runtime.errors import describe_error, describe_error_with_kind
from sweeplab.runtime.paths import abbreviate_home, abbreviate_home_in_text, expand_home, quote_command


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "zaphod b's"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_values_of_any_depth_are_told_and_found_again(home: Path) -> None:
    path = f"{home}/models/a"
    assert abbreviate_home(path) == "~/models/a"
    assert abbreviate_home({"choices": [path, 3, None], "low": 0.5}) == {"choices": ["~/models/a", 3, None], "low": 0.5}
    assert abbreviate_home([{"better": {"data.path": path}}]) == [{"better": {"data.path": "~/models/a"}}]
    assert expand_home("~/models/a") == Path(path)
    assert expand_home("/models/a") == Path("/models/a")
    assert abbreviate_home(str(home)) == str(home)  # the folder itself is no file of a study
    assert abbreviate_home(f"{home}2/a") == f"{home}2/a"  # somebody else's
    assert abbreviate_home_in_text(f"no file {path}; see {home}/log") == "no file ~/models/a; see ~/log"


@pytest.mark.parametrize("home", ["", "/", None])
def test_without_a_home_paths_stay_as_they_are(home: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no name: nothing is abbreviated, and nothing fails."""
    if home is None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", _know_nobody)
    else:
        monkeypatch.setenv("HOME", home)
    for path in ("/models/a", "./a", "a/b", ""):
        assert abbreviate_home(path) == path
        assert abbreviate_home_in_text(f"no file {path}") == f"no file {path}"
        assert expand_home(path) == Path(path)
    assert quote_command(["a", "b=/c d"]) == "a 'b=/c d'"
    assert describe_error_with_kind(OSError("no file /models/a")) == "OSError: no file /models/a"
    if home is None:
        assert expand_home("~/models/a") == Path("~/models/a")


def _know_nobody(number: int) -> None:
    raise KeyError(number)


def test_an_error_becomes_one_line_without_the_user_s_name(home: Path) -> None:
    error = OSError(f"no file {home}/a\nin {home}")
    assert describe_error(error) == "no file ~/a"
    assert describe_error_with_kind(error) == "OSError: no file ~/a"
    assert describe_error(ValueError()) == "ValueError"


def test_a_command_is_typed_again_with_the_same_arguments(home: Path) -> None:
    arguments = [f"model.path={home}/a", f"space.data.path.choices=[{home}/b c,{home}/d]", "study.question='it''s'"]
    command = quote_command(["printf", "%s\\n", *arguments])
    assert str(home) not in command
    typed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert typed.splitlines() == arguments
