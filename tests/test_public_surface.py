"""`import sweeplab`: the examples of its docstrings, and what is imported when."""

import doctest
import sys
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import sweeplab
from sweeplab.__main__ import main
from tests.test_architecture import HEAVY, loaded_after

ROOT = Path(__file__).parents[1]
EXAMPLES = ("sweeplab", "sweeplab.api.configuration", "sweeplab.api.fit", "sweeplab.api.study")


@pytest.mark.parametrize("module", EXAMPLES)
def test_the_examples_do_what_they_say(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Lightning advises a user is no matter of the example
        done = doctest.testmod(import_module(module), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert done.attempted > 0
    assert done.failed == 0


def test_every_name_is_there_and_has_an_example() -> None:
    for name in sweeplab.__all__:
        assert hasattr(sweeplab, name), name
    assert sweeplab.__version__ == version("sweeplab")
    named: Any = sweeplab
    functions = ("open_study", "compose_study", "compose_trial", "build_trial")
    assert all(">>>" in (getattr(named, name).__doc__ or "") for name in functions)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        named.nothing  # noqa: B018


@pytest.mark.parametrize("arguments", [["--version"], ["adapter.rank=8", "--version"]])
def test_the_command_line_says_its_version(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sweeplab", *arguments])
    main()
    assert capsys.readouterr().out.splitlines()[0] == f"sweeplab {version('sweeplab')}"


def test_a_study_and_a_configuration_come_without_torch() -> None:
    assert loaded_after(["sweeplab"]) & {*HEAVY, "hydra", "pandas", "numpy"} == set()
    loaded = loaded_after(["sweeplab.api.study", "sweeplab.api.configuration"])
    assert {"hydra", "numpy"} <= loaded
    assert loaded & set(HEAVY) == set()
