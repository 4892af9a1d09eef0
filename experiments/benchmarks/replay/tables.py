"""Trains the tables: `python -m experiments.benchmarks.replay.tables --data DIR [NAME ...]`. Hours; it resumes.

Six tasks, 63 settings each (`conf/experiment/rate_rank_alpha.yaml`). Each becomes a CSV file in
`reports/benchmarks/replay/tables` with one row for each run and a column for each held-out loss on its way.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from sweeplab.builtin.world import make_target_examples
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import read_records

TABLES: Final = Path("reports/benchmarks/replay/tables")
_RUNS: Final = Path("runs/benchmarks/replay")
_KEYS: Final = ("optimizer.lr", "adapter.rank", "adapter.alpha_ratio")
_FIVE_SEEDS: Final = "study.seeds=[0,1,2,3,4]"


def _write_world(target: str) -> Path:
    """The embedded world's examples as a file, to be a part of a mixture."""
    path = _RUNS / f"{target}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(make_target_examples(target)), encoding="utf-8")
    return path


def _mix(num_facts: int, num_operations: int) -> list[str]:
    """Both targets of the embedded world in the given proportion."""
    parts = ((_write_world("new_facts"), num_facts), (_write_world("operation"), num_operations))
    listed = ", ".join(f"{{path: {path}, weight: {weight}}}" for path, weight in parts)
    return ["data=mixture", f"data.parts=[{listed}]", "data.style=plain", "data.num_examples=400"]


def _follow_instructions(folder: Path, name: str, heldout_fraction: float) -> list[str]:
    """A small pretrained Llama on instructions; some 65 examples are held out."""
    options = ("data.num_examples=400", f"data.heldout_fraction={heldout_fraction}", "training.micro_batch_size=4")
    model = ("model=local", f"model.path={folder / 'stories260K'}")
    return [*model, "data=json", f"data.path={folder / 'instruct' / name}", *options]


def _list_tasks(folder: Path) -> dict[str, list[str]]:
    """What each table's command adds, by the name of the table; the two with five seeds come first."""
    return {
        "facts": ["data=tiny_facts", _FIVE_SEEDS],
        "instructions": [*_follow_instructions(folder, "instruction-data.json", 0.06), _FIVE_SEEDS],
        "operation": ["data=tiny_operation"],
        "more_facts": _mix(3, 1),
        "more_operations": _mix(1, 3),
        "alpaca": [*_follow_instructions(folder, "alpaca_5000.json", 0.013), "data.max_skipped=0.05"],  # cut off whole
    }


def _write_table(name: str, records: list[TrialRecord]) -> None:
    """One row for each run: setting, seed, how it ended, tokens it trained on, and its held-out losses by step."""
    steps = sorted({one.step for record in records for one in record.heldout_losses})
    TABLES.mkdir(parents=True, exist_ok=True)
    with (TABLES / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_KEYS, "seed", "status", "num_train_tokens", *steps])
        for record in sorted(records, key=lambda one: (*(one.params[key] for key in _KEYS), one.seed)):
            losses = {one.step: f"{one.loss:.6g}" for one in record.heldout_losses}
            facts = [record.seed, record.status.value, record.num_train_tokens]
            writer.writerow([*(record.params[key] for key in _KEYS), *facts, *(losses.get(step) for step in steps)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with stories260K and instruct/*.json")
    parser.add_argument("names", nargs="*", help="tables to train; none: all")
    arguments = parser.parse_args()
    tasks = _list_tasks(arguments.data)
    for name in arguments.names or tasks:
        study = ["+experiment=rate_rank_alpha", f"study.name={name}", f"study.runs_dir={_RUNS}", "tracking=none"]
        subprocess.run([sys.executable, "-m", "sweeplab", *study, *tasks[name]], check=True)
        _write_table(name, read_records(_RUNS / name))


if __name__ == "__main__":
    main()
