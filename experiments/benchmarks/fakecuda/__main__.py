"""`python -m experiments.benchmarks.fakecuda [memory] [roofline]`: fake CUDA tensors, no GPU; minutes of a core."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

os.environ.update({"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"})

from experiments.benchmarks.fakecuda import memory, roofline
from experiments.benchmarks.fakecuda.report import write_report
from sweeplab.records.store import read_json, write_json

FOLDER: Final = Path("reports/benchmarks/fakecuda")
PARTS: Final[dict[str, Callable[[], Iterator[dict[str, Any]]]]] = {
    "memory": memory.measure_cases,
    "roofline": roofline.measure,
}


def main(parts: list[str], folder: Path = FOLDER) -> None:
    """Writes each part's rows as they come, and the page of all parts."""
    for part in parts or list(PARTS):
        rows: list[dict[str, Any]] = []
        for row in PARTS[part]():
            rows.append(row)
            write_json(folder / f"{part}.json", rows)
    there = {part: read_json(folder / f"{part}.json") for part in PARTS if (folder / f"{part}.json").exists()}
    write_report(there, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
