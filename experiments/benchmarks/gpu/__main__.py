"""What one GPU does: `python -m experiments.benchmarks.gpu [--part memory|throughput|peers|cohorts ...]`.

Without a GPU it says so and ends with 2. Nothing is installed and no network is asked.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

os.environ.update({"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"})

import torch

from experiments.benchmarks.gpu import cohorts, memory, peers, throughput
from experiments.benchmarks.gpu.cases import Case, Row, free_memory, run_cases
from experiments.benchmarks.gpu.ceiling import surroundings
from experiments.benchmarks.gpu.report import report
from experiments.benchmarks.gpu.trials import Laboratory
from sweeplab.records.store import read_json, write_json, write_text

REPORT: Final = Path("reports/benchmarks/gpu")
PARTS: Final = ("memory", "throughput", "peers", "cohorts")
BUDGET_SECONDS: Final = 540
NO_GPU: Final = 2


def cases_of(part: str, ceiling: float) -> list[Case]:
    """The part's cases, on a workbench of their own."""
    lab = Laboratory.on("cuda", cohort_size=1)
    if part == "memory":
        return memory.cases(lab)
    if part == "throughput":
        return throughput.cases(lab, ceiling)
    return peers.cases(lab) if part == "peers" else cohorts.cases(lab)


def write_part(folder: Path, part: str, told: dict[str, Any]) -> None:
    """The part's file, and the page of all parts that have one."""
    write_json(folder / f"{part}.json", told)
    there = {one: read_json(folder / f"{one}.json") for one in PARTS if (folder / f"{one}.json").exists()}
    write_text(folder / "report.md", report(there))


def run_part(part: str, folder: Path, budget_seconds: float) -> None:
    started = time.monotonic()
    facts = surroundings(torch.device("cuda"))

    def keep(rows: list[Row]) -> None:
        write_part(folder, part, {"surroundings": facts, "budget_seconds": budget_seconds, "rows": rows})
        last = rows[-1]
        print(part, last["case"], last["status"], last.get("reason", ""), f"{last.get('seconds', 0):.1f} s", flush=True)

    cases = cases_of(part, facts["bf16_flops_per_second"])
    run_cases(cases, budget_seconds - (time.monotonic() - started), keep)
    del cases
    free_memory()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.gpu", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be given several times (default: all)")
    parser.add_argument("--budget", type=float, default=BUDGET_SECONDS, help="seconds of each part (default: 540)")
    parser.add_argument("--out", type=Path, default=REPORT, help=f"folder of the results (default: {REPORT})")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("experiments.benchmarks.gpu: needs a CUDA device, and torch sees none; nothing was run", file=sys.stderr)
        sys.exit(NO_GPU)
    for part in asked.part or PARTS:
        run_part(part, asked.out, asked.budget)


if __name__ == "__main__":
    main()
