"""Simulated studies with known truth: `python -m experiments.benchmarks.coverage [WORD ...]`.

Shapes that were run with the same statistics are not run again: their results are in `runs/benchmarks/coverage`.
"""

import argparse
import ast
import hashlib
import inspect
import json
import platform
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy

from experiments.benchmarks.coverage.measures import measure_looks, measure_study, summarize
from experiments.benchmarks.coverage.report import find_failures, write_report
from experiments.benchmarks.coverage.shapes import Shape, list_shapes

KEPT: Final = Path("runs/benchmarks/coverage/shapes.jsonl")
NUM_DRAWS: Final = 2_000


def digest_statistics() -> str:
    """A digest of what the modules of `sweeplab.statistics` in use do, whatever their comments and their layout are."""
    digest = hashlib.sha256()
    for name in sorted(name for name in sys.modules if name.startswith("sweeplab.statistics.")):
        source = inspect.getsource(sys.modules[name])
        digest.update(ast.dump(ast.parse(source)).encode())
    return digest.hexdigest()[:12]


def run_shape(shape: Shape, num_draws: int, num_other_draws: int) -> dict[str, Any]:
    """All quantities of a shape, by world, from random numbers that depend on its name only.

    `num_draws` are of studies whose settings are all alike, `num_other_draws` of those of the other worlds.
    """
    started, quantities = time.process_time(), dict[str, dict[str, float]]()
    for world in shape.worlds:
        num_of_world = num_draws if world == "alike" else num_other_draws
        random = np.random.default_rng(zlib.crc32(f"{shape.name}, {world}".encode()))
        studies = (shape.drawer(random, world, shape.num_settings, shape.num_seeds) for _ in range(num_of_world))
        needs_intervals = shape.needs_intervals(world)
        draws = [measure_looks(one) if shape.has_looks else measure_study(one, needs_intervals) for one in studies]
        quantities |= {
            f"{world} {name}": summary._asdict()
            for name, summary in summarize(draws).items()
            if "tukey" not in name or summary.num_draws == num_of_world  # it needs all runs, which not all studies have
        }
    return {
        "name": shape.name,
        "group": shape.group,
        "num_draws": num_draws,
        "num_other_draws": num_other_draws,
        "seconds": round(time.process_time() - started, 1),
        "quantities": quantities,
    }


def read_kept(path: Path, num_draws: int, num_other_draws: int, statistics: str | None) -> dict[str, dict[str, Any]]:
    """Results of earlier runs with as many draws, by name: with these statistics, or the last ones with any (None)."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {
        line["name"]: line
        for line in lines
        if line["num_draws"] == num_draws
        and line["num_other_draws"] >= num_other_draws
        and statistics in (None, line["statistics"])
    }


def run_shapes(
    shapes: Sequence[Shape], num_draws: int, num_other_draws: int, statistics: str
) -> Iterator[dict[str, Any]]:
    """Runs the shapes one after the other, and keeps each result as soon as it is there."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    for shape in shapes:
        result = run_shape(shape, num_draws, num_other_draws) | {"statistics": statistics}
        with KEPT.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result, allow_nan=False) + "\n")
        yield result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.coverage", description=__doc__)
    parser.add_argument("words", nargs="*", help="only shapes with all of these in their group or name, without report")
    parser.add_argument("--draws", type=int, default=NUM_DRAWS, help=f"where all are alike (default: {NUM_DRAWS})")
    parser.add_argument("--other-draws", type=int, default=NUM_DRAWS, help=f"of other worlds (default: {NUM_DRAWS})")
    parser.add_argument("--report", action="store_true", help="only write the report, of the shapes that were run")
    parser.add_argument(
        "--any", action="store_true", help="also keep results with earlier statistics; the report says which"
    )
    asked = parser.parse_args()
    statistics, shapes = digest_statistics(), list_shapes()
    chosen = [one for one in shapes if all(word in f"{one.group}, {one.name}" for word in asked.words)]
    wanted = None if asked.any else statistics
    kept = read_kept(KEPT, asked.draws, asked.other_draws, wanted)
    missing = [] if asked.report else [one for one in chosen if one.name not in kept]
    for result in run_shapes(missing, asked.draws, asked.other_draws, statistics):
        failures = "; ".join(f"{name} {100 * found['value']:.1f}" for _, name, found in find_failures([result]))
        print(f"{result['name']}: {result['seconds']} s  {failures}", flush=True)
    if not asked.words:
        kept = read_kept(KEPT, asked.draws, asked.other_draws, wanted)
        facts = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__}
        write_report([kept[shape.name] for shape in shapes if shape.name in kept], len(shapes), facts)


if __name__ == "__main__":
    main()
