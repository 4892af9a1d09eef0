"""The plan against tensors and resident sets of real trials, as `experiments/benchmarks/memory_model` has them."""

import json
import statistics
import sys
from pathlib import Path

import pytest

from experiments.benchmarks.memory_model.__main__ import (
    PHASES,
    REPORT,
    compared,
    compared_tensors,
    measure,
    report,
    run,
    write_records,
)
from experiments.benchmarks.memory_model.geometries import GEOMETRIES, OTHERS

ROOT = Path(__file__).parents[2]


def test_the_evidence_has_every_geometry_within_its_bounds() -> None:
    results = json.loads((ROOT / REPORT / "results.json").read_text())["returning"]
    assert results.keys() == GEOMETRIES.keys()
    assert len(results) >= 12
    rows = {name: compared(values)["train"] for name, values in results.items()}
    errors = [abs(row["predicted"] / row["measured"] - 1) for row in rows.values()]
    assert statistics.median(errors) < 0.10
    assert max(errors) < 0.25


def test_the_counted_evidence_has_every_geometry_within_its_bounds() -> None:
    results = json.loads((ROOT / REPORT / "tensors.json").read_text())
    assert results.keys() == GEOMETRIES.keys()
    rows = [compared_tensors(values) for values in results.values()]
    for phase in PHASES:
        errors = [abs(row[phase]["predicted"] / row[phase]["counted"] - 1) for row in rows]
        assert statistics.median(errors) < 0.02, phase
        assert max(errors) < 0.08, phase


def test_the_committed_page_is_what_the_evidence_gives() -> None:
    resident = json.loads((ROOT / REPORT / "results.json").read_text())
    tensors = json.loads((ROOT / REPORT / "tensors.json").read_text())
    page = (ROOT / REPORT / "report.md").read_text()
    assert page == report(tensors, resident["returning"], resident["default"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rank 256, all matrices, accumulation", "nf4_dq, all matrices", *OTHERS])
def test_a_real_trials_tensors_are_what_was_planned(name: str) -> None:
    for phase, row in compared_tensors(measure([name], "tensors")[name]).items():
        assert row["predicted"] / row["counted"] == pytest.approx(1, abs=0.08), phase


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident peaks are Linux's")
@pytest.mark.parametrize("name", ["8 layers of 512", "checkpointing", "nf4"])
def test_a_real_trial_needs_what_was_planned(name: str, tmp_path: Path) -> None:
    data = tmp_path / "records.jsonl"
    write_records(data)
    row = compared(run(name, data, "returning"))["train"]
    assert row["predicted"] / row["measured"] == pytest.approx(1, abs=0.15)
