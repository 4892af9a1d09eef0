"""What runs without torch, how long things may be, where tests stand; who imports whom: contracts in pyproject.toml."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import sweeplab
from tests.conftest import LONGEST_FIRST

PACKAGE: Final = Path(sweeplab.__file__).parent
PURE: Final = {"numpy", "scipy", "math", "itertools", "dataclasses", "functools", "typing", "collections", "sweeplab"}
TORCH_FREE: Final = ("config", "records", "report", "search", "tracking", "execution")
HEAVY: Final = ("torch", "transformers", "lightning", "peft", "lm_eval", "wandb", "datasets", "bitsandbytes")
MOST_LINES: Final = 300
MOST_FUNCTION_LINES: Final = 60

# tests of what several modules do together; any other test file has the name and the folder of its module
ACROSS: Final = {
    "analysis/test_analyze.py",
    "cli/test_json.py",
    "cli/test_live_browser.py",
    "cli/test_mistakes.py",
    "config/test_conf_headings.py",
    "data/test_borders.py",
    "evaluation/test_kinds.py",
    "evaluation/test_lm_eval_tasks.py",
    "evaluation/test_lora_insights.py",
    "evaluation/test_options.py",
    "evaluation/test_system_instruction.py",
    "execution/test_chaos.py",
    "execution/test_isolation.py",
    "execution/test_wishes_trained.py",
    "experiments/test_coverage_benchmark.py",
    "experiments/test_driver_benchmark.py",
    "experiments/test_fakecuda_benchmark.py",
    "experiments/test_gpu_benchmark.py",
    "experiments/test_replay.py",
    "experiments/test_scaling.py",
    "experiments/test_smollm2.py",
    "experiments/test_texts.py",
    "fakecuda/test_cohort_size.py",
    "fakecuda/test_memory.py",
    "fakecuda/test_phases.py",
    "fakecuda/test_waits.py",
    "gpu/test_devices.py",
    "gpu/test_gpu.py",
    "models/quantization/test_quantization_numbers.py",
    "planning/test_memory_model.py",
    "planning/test_published.py",
    "report/test_stopped.py",
    "report/test_browser.py",
    "report/test_committed.py",
    "report/test_constraints.py",
    "report/test_damaged.py",
    "report/test_together.py",
    "search/test_added_seeds.py",
    "search/test_resume.py",
    "test_architecture.py",
    "test_composed_once.py",
    "test_documentation.py",
    "test_common_architectures.py",
    "test_every_architecture.py",
    "tasks/test_tasks.py",
    "test_fuzz.py",
    "test_public_surface.py",
    "test_security.py",
    "training/test_trajectories.py",
    "trial/test_cohort_numbers.py",
    "trial/test_overheads.py",
    "trial/test_divided.py",
    "trial/test_experts.py",
    "trial/test_retries.py",
    "trial/test_rungs.py",
    "trial/test_stopping.py",
    "trial/test_vision_trial.py",
}

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
    modules = [dotted(path) for path in MODULES if room(path) in TORCH_FREE]
    assert "sweeplab.execution.worker" in modules
    loaded = loaded_after(modules)
    assert {"optuna", "jinja2", "hydra"} <= loaded  # they were imported indeed
    assert loaded & set(HEAVY) == set()


def test_the_command_line_starts_light() -> None:
    assert (
        loaded_after(["sweeplab.__main__", "sweeplab.cli.dispatch"]) & {*HEAVY, "optuna", "rich", "numpy", "jinja2"}
        == set()
    )


@pytest.mark.parametrize("path", [path for path in MODULES if room(path) == "statistics"], ids=lambda path: path.stem)
def test_statistics_know_nothing_but_numbers(path: Path) -> None:
    tree = ast.parse(path.read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name.partition(".")[0] for name in modules} <= PURE


def test_tests_mirror_the_modules() -> None:
    """A test file is of one module, or is named above; every folder of modules has a folder of tests."""
    tests = Path(__file__).parent
    files = {path.relative_to(tests) for path in tests.rglob("test_*.py")}
    of_no_module = {file for file in files if not (PACKAGE / file.parent / file.name.removeprefix("test_")).exists()}
    assert {str(file) for file in of_no_module} == ACROSS
    assert set(LONGEST_FIRST) <= {str(file) for file in files}
    rooms = {path.parent.relative_to(PACKAGE) for path in MODULES}
    assert rooms <= {file.parent for file in files}
