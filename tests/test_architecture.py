"""What runs without torch, and how long things may be. Who may import whom: the contracts in pyproject.toml."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import sweeplab

PACKAGE: Final = Path(sweeplab.__file__).parent
PURE: Final = {"numpy", "scipy", "math", "itertools", "dataclasses", "functools", "typing", "collections", "sweeplab"}
TORCH_FREE: Final = ("config", "records", "report", "search", "tracking", "execution")
HEAVY: Final = ("torch", "transformers", "lightning", "peft", "lm_eval", "wandb", "datasets", "bitsandbytes")
MOST_LINES: Final = 300
MOST_FUNCTION_LINES: Final = 60

MODULES: Final = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES: Final = [str(path.relative_to(PACKAGE)) for path in MODULES]


def room(path: Path) -> str:
    """The package or top module of a file."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len(text.splitlines()) < MOST_LINES
    lengths = {one.name: (one.end_lineno or 0) - one.lineno + 1 for one in functions}
    assert {name: length for name, length in lengths.items() if length >= MOST_FUNCTION_LINES} == {}


def loaded_after(modules: list[str]) -> set[str]:
    """Top-level packages that a fresh interpreter holds after importing `modules`."""
    program = f"import {', '.join(modules)}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def test_driver_and_report_run_without_torch() -> None:
    modules = [
        dotted(path)
        for path in MODULES
        if room(path) in ("config", "records", "report", "search", "tracking", "execution")
    ]
    assert "sweeplab.execution.worker" in modules
    loaded = loaded_after(modules)
    assert {"optuna", "jinja2", "hydra"} <= loaded  # they were imported indeed
    assert loaded & set(HEAVY) == set()


def test_the_command_line_starts_light() -> None:
    assert loaded_after(["sweeplab.__main__"]) & {*HEAVY, "optuna", "rich", "numpy", "jinja2"} == set()


@pytest.mark.parametrize("path", [path for path in MODULES if room(path) == "statistics"], ids=lambda path: path.stem)
def test_statistics_know_nothing_but_numbers(path: Path) -> None:
    tree = ast.parse(path.read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name.partition(".")[0] for name in modules} <= PURE
