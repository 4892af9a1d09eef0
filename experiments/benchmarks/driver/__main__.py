"""What the driver itself sustains: `python -m experiments.benchmarks.driver [--trials 1000 10000]`."""

import argparse
import tempfile
from pathlib import Path
from typing import Any, Final

import torch

from experiments.benchmarks.driver.study import go_on, report_seconds, request_of
from sweeplab.records.store import write_json, write_text
from sweeplab.runtime.provenance import describe_device, describe_software

FOLDER: Final = Path("reports/benchmarks/driver")
PARTS: Final = ("ask", "compose", "observe", "record", "tell")


def measure(num_trials: int, num_workers: int, num_observations: int, sampler: str) -> dict[str, Any]:
    """One study from nothing to its report, and opened once more."""
    with tempfile.TemporaryDirectory() as name:
        overrides = (f"sampler={sampler}", f"study.num_trials={num_trials}")
        with request_of(Path(name), *overrides) as request:
            ran = go_on(request, num_workers, num_observations)
            again = go_on(request, num_workers, num_observations)
            assert (ran["num_run"], again["num_run"]) == (num_trials, 0)
            return {
                "sampler": sampler,
                "num_trials": num_trials,
                "trials_per_second": num_trials / ran["run_seconds"],
                "milliseconds": {part: 1e3 / ran["per_second"][part] for part in PARTS},
                "resume_seconds": again["open_seconds"] + again["run_seconds"],
                "report_seconds": report_seconds(request),
            }


def page(rows: list[dict[str, Any]], num_workers: int, num_observations: int, facts: dict[str, Any]) -> str:
    titles = ("sampler", "trials", "trials/s", *(f"{part} ms" for part in PARTS), "resume s", "report s")
    lines = [f"| {' | '.join(titles)} |", f"| --- |{' ---: |' * (len(titles) - 1)}"]
    for row in rows:
        parts = " | ".join(f"{row['milliseconds'][part]:.2f}" for part in PARTS)
        lines.append(
            f"| {row['sampler']} | {row['num_trials']} | {row['trials_per_second']:.1f} | {parts} | "
            f"{row['resume_seconds']:.1f} | {row['report_seconds']:.1f} |"
        )
    head = (
        "# The driver alone\n\n"
        f"{num_workers} workers that answer at once, {num_observations} observations a trial, SQLite. Times are of the "
        f"processor ({facts['device']['processor']}), one of each, the mean over the study: other work shared it. "
        "Waiting for a disk comes on top: two transactions and a file of each trial are forced to it.\n\n"
    )
    return head + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.driver", description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 10_000], help="trials of each study")
    parser.add_argument("--workers", type=int, default=1000, help="workers at once (default: 1000)")
    parser.add_argument("--observations", type=int, default=4, help="that a worker tells of a trial (default: 4)")
    parser.add_argument("--sampler", default="random", help="of Optuna's (default: random)")
    asked = parser.parse_args()
    rows = []
    facts = {**describe_software(), "device": describe_device(torch.device("cpu"))}
    for num_trials in asked.trials:
        rows.append(measure(num_trials, asked.workers, asked.observations, asked.sampler))
        print(rows[-1], flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(FOLDER / "results.json", {"rows": rows, "num_workers": asked.workers, "provenance": facts})
    write_text(FOLDER / "report.md", page(rows, asked.workers, asked.observations, facts))


if __name__ == "__main__":
    main()
