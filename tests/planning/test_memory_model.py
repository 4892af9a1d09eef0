"""The plan against the resident set of real trials, as `experiments/benchmarks/memory_model` measures it."""

import json
import statistics
import sys
from pathlib import Path

import pytest

from experiments.benchmarks.memory_model.__main__ import REPORT, compared, run, write_records
from experiments.benchmarks.memory_model.geometries import GEOMETRIES

ROOT = Path(__file__).parents[2]


def test_the_evidence_has_every_geometry_within_its_bounds() -> None:
    results = json.loads((ROOT / REPORT / "results.json").read_text())["returning"]
    assert results.keys() == GEOMETRIES.keys()
    assert len(results) >= 12
    rows = {name: compared(values)["train"] for name, values in results.items()}
    errors = [abs(row["predicted"] / row["measured"] - 1) for row in rows.values()]
    assert statistics.median(errors) < 0.10
    assert max(errors) < 0.25


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident peaks are Linux's")
@pytest.mark.parametrize("name", ["8 layers of 512", "checkpointing", "nf4"])
def test_a_real_trial_needs_what_was_planned(name: str, tmp_path: Path) -> None:
    data = tmp_path / "records.jsonl"
    write_records(data)
    row = compared(run(name, data, "returning"))["train"]
    assert row["predicted"] / row["measured"] == pytest.approx(1, abs=0.15)
