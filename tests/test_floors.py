"""The house's rules, held by reading the source: who imports whom, what runs without torch, how long things may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import sweeplab

PACKAGE: Final = Path(sweeplab.__file__).parent
FLOORS: Final = {
    0: (
        *("config", "sections", "records", "world", "digits", "checks", "sharing", "claims", "statistics", "typed"),
        *("ranks", "paths", "errors"),
    ),
    1: ("data", "models", "training", "evaluation", "provenance", "store", "measure"),
    2: ("workbench", "planning", "report"),
    3: ("trial", "analysis"),
    4: ("probe", "scoring"),
    5: ("cohort",),
    6: ("study",),
    7: ("__main__",),
}
FLOOR_OF: Final = {name: floor for floor, names in FLOORS.items() for name in names}
GROUND: Final = {  # one vocabulary, and its rules
    *(("checks", name) for name in ("config", "records", "world", "digits", "claims")),
    ("config", "claims"),
    ("records", "typed"),
    ("checks", "typed"),
    ("sharing", "config"),
    ("checks", "sharing"),
    ("config", "sections"),
    ("checks", "paths"),
}
PURE: Final = {"numpy", "scipy", "math", "itertools", "dataclasses", "functools", "typing", "collections", "sweeplab"}
HEAVY: Final = ("torch", "transformers", "lightning", "peft", "lm_eval", "wandb", "datasets", "bitsandbytes")
MOST_LINES: Final = 300
MOST_FUNCTION_LINES: Final = 60

MODULES: Final = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES: Final = [str(path.relative_to(PACKAGE)) for path in MODULES]


def room(path: Path) -> str:
    """The package or top module of a file."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, room) of everything a module imports of this package, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides its floor"
            module = str(node.module)
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "sweeplab" else [module]
        else:
            continue
        yield from ((node.lineno, name.split(".")[1]) for name in names if name.startswith("sweeplab."))


def refused(importer: str, target: str) -> bool:
    if importer == target or (importer, target) in GROUND:
        return False
    return FLOOR_OF[target] >= FLOOR_OF[importer]


def test_every_module_stands_on_a_floor() -> None:
    rooms = {room(path) for path in MODULES} - {"__init__"}
    assert rooms == set(FLOOR_OF)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_come_from_lower_floors(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert path.read_text() == ""
        return
    wrong = [(line, name) for line, name in imported(ast.parse(path.read_text())) if refused(room(path), name)]
    assert wrong == [], f"{path.relative_to(PACKAGE)} imports from its own floor or a higher one"


def test_the_rule_sees_imports_in_functions_and_of_whole_packages() -> None:
    source = "from sweeplab import world\ndef f():\n    import sweeplab.execution.driver\n    from sweeplab.records.store import x\n"
    assert sorted(imported(ast.parse(source))) == [(1, "world"), (3, "study"), (4, "store")]
    assert refused("training", "data")
    assert refused("config", "store")
    assert refused("study", "__main__")
    assert not refused("trial", "data")
    assert not refused("study", "study")


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
    modules = [dotted(path) for path in MODULES if room(path) in ("config", "records", "store", "report", "study")]
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
