"""No record says whose machine it is: paths in the home folder begin with ~, and are found again."""

import subprocess
from pathlib import Path

import pytest

from sweeplab.config.model import ModelConfig
from sweeplab.records.claim import ClaimConfig
from sweeplab.runtime.paths import here, told, told_command, told_text


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "zaphod b's"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_values_of_any_depth_are_told_and_found_again(home: Path) -> None:
    path = f"{home}/models/a"
    assert told(path) == "~/models/a"
    assert told({"choices": [path, 3, None], "low": 0.5}) == {"choices": ["~/models/a", 3, None], "low": 0.5}
    assert told(ModelConfig(source="local", path=path)).path == "~/models/a"
    assert told(ClaimConfig(words="x", better={"data.path": path})).better == {"data.path": "~/models/a"}
    assert here("~/models/a") == Path(path)
    assert here("/models/a") == Path("/models/a")
    assert told(str(home)) == str(home)  # the folder itself is no file of a study
    assert told(f"{home}2/a") == f"{home}2/a"  # somebody else's
    assert told_text(f"no file {path}; see {home}/log") == "no file ~/models/a; see ~/log"


def test_a_command_is_typed_again_with_the_same_arguments(home: Path) -> None:
    arguments = [f"model.path={home}/a", f"space.data.path.choices=[{home}/b c,{home}/d]", "study.question='it''s'"]
    command = told_command(["printf", "%s\\n", *arguments])
    assert str(home) not in command
    typed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert typed.splitlines() == arguments
