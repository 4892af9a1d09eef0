"""No record says whose machine it is: paths in the home folder begin with ~, and are found again."""

import subprocess
from pathlib import Path

import pytest

from sweeplab.config.model import ModelConfig
from sweeplab.records.claim import ClaimConfig
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
    assert abbreviate_home(ModelConfig(source="local", path=path)).path == "~/models/a"
    assert abbreviate_home(ClaimConfig(words="x", better={"data.path": path})).better == {"data.path": "~/models/a"}
    assert expand_home("~/models/a") == Path(path)
    assert expand_home("/models/a") == Path("/models/a")
    assert abbreviate_home(str(home)) == str(home)  # the folder itself is no file of a study
    assert abbreviate_home(f"{home}2/a") == f"{home}2/a"  # somebody else's
    assert abbreviate_home_in_text(f"no file {path}; see {home}/log") == "no file ~/models/a; see ~/log"


def test_a_command_is_typed_again_with_the_same_arguments(home: Path) -> None:
    arguments = [f"model.path={home}/a", f"space.data.path.choices=[{home}/b c,{home}/d]", "study.question='it''s'"]
    command = quote_command(["printf", "%s\\n", *arguments])
    assert str(home) not in command
    typed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert typed.splitlines() == arguments
