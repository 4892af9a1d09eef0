"""Whether `auto` is ever slower than one trial at a time: `python -m experiments.benchmarks.makespan.auto`.

For each geometry a worker's own measurement says how many trials train at once; then all trials take a pass in that way
and one by one, in alternation. Processor seconds, which other work on the machine moves less than wall seconds.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch

from experiments.benchmarks.makespan.counting import ProductCount
from experiments.benchmarks.makespan.geometry import FixedLength, run_of
from experiments.benchmarks.makespan.report import FOLDER
from experiments.benchmarks.makespan.settings import MODELS, Model
from sweeplab.records.store import write_json, write_text
from sweeplab.report.evidence.formatting import count_noun
from sweeplab.runtime.provenance import describe_device, describe_software
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial.cohort_speed import measure_fastest_size
from sweeplab.trial.profile import prepare_longest_pass

GEOMETRIES: Final = ((1, 32), (4, 64), (8, 109), (16, 35), (16, 128))  # rows by tokens; the fourth is the default's
NUM_TRIALS: Final = 8
BAR: Final = 0.98


class Compared(NamedTuple):
    """Processor seconds and multiply-adds of all trials' passes: as auto has them, and one at a time."""

    rows: int
    length: int
    size: int
    ratios: list[float]  # solo's processor seconds over auto's, round by round
    wall_ratios: list[float]
    auto_seconds: float  # the least
    solo_seconds: float
    auto_multiply_adds: int
    solo_multiply_adds: int
    measuring_seconds: float  # once for the geometry


def in_groups(trials: Sequence[RunningTrial], size: int) -> list[Sequence[RunningTrial]]:
    return [trials[start : start + size] for start in range(0, len(trials), size)]


def run_passes(trials: Sequence[RunningTrial], size: int, resources: FixedLength, num_passes: int) -> None:
    """Forward and backward of each trial's micro-batch, `size` trials at a time."""
    for group in in_groups(trials, size):
        with prepare_longest_pass(group, resources) as work:
            for _ in range(num_passes):
                work()


def clock(work: Callable[[], None]) -> tuple[float, float]:
    """Processor and wall seconds."""
    processor, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - processor, time.perf_counter() - wall


def count(work: Callable[[], None]) -> int:
    counter = ProductCount()
    with counter:
        work()
    return counter.multiply_adds


def compare(model: Model, resources: FixedLength, rows: int, length: int, rounds: int, num_passes: int) -> Compared:
    resources.length = length
    trials = [run_of(resources, rows, seed, model) for seed in range(NUM_TRIALS)]
    found: list[int] = []
    measuring, _ = clock(lambda: found.append(measure_fastest_size(trials, resources)))
    (size,) = found
    times: list[tuple[float, float, float, float]] = []
    for place in range(rounds + 1):
        auto = solo = (0.0, 0.0)
        for chosen in (size, 1) if place % 2 else (1, size):  # none is always first
            spent = clock(lambda: run_passes(trials, chosen, resources, num_passes))  # noqa: B023
            auto, solo = (spent if chosen == size else auto), (spent if chosen == 1 else solo)
        times.append((*auto, *solo))
    times = times[1:]
    return Compared(
        rows,
        length,
        size,
        [solo / auto for auto, _, solo, _ in times],
        [solo / auto for _, auto, _, solo in times],
        min(one[0] for one in times),
        min(one[2] for one in times),
        count(lambda: run_passes(trials, size, resources, 1)),
        count(lambda: run_passes(trials, 1, resources, 1)),
        measuring,
    )


def page(model: str, found: Sequence[Compared], facts: dict[str, Any]) -> str:
    titles = ("rows", "tokens", "at once", "times as fast", "wall", "multiply-adds, auto / solo", "measuring, s")
    lines = [f"| {' | '.join(titles)} |", f"|{' ---: |' * len(titles)}"]
    for one in found:
        ratio, wall = statistics.median(one.ratios), statistics.median(one.wall_ratios)
        spread = f"{ratio:.3f} ({min(one.ratios):.3f} to {max(one.ratios):.3f})"
        work = f"{one.auto_multiply_adds / one.solo_multiply_adds:.3f}"
        lines.append(
            f"| {one.rows} | {one.length} | {one.size} | {spread} | {wall:.3f} | {work} | {one.measuring_seconds:.1f} |"
        )
    worst, device = min(statistics.median(one.ratios) for one in found), facts["device"]
    return (
        f"# Auto against one trial at a time: {model}\n\n"
        f"{NUM_TRIALS} trials of rank 8; processor seconds of forward and backward one at a time, over those with as "
        f"many at once as `executor.cohort_size=auto` measures to be fastest; median (range) of {len(found[0].ratios)} "
        f"rounds in alternation. {device['processor']}, {count_noun(device['num_threads'], 'thread')}.\n\n"
        + "\n".join(lines)
        + f"\n\nThe worst is {worst:.3f}; the bar is {BAR}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.makespan.auto", description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="tiny_base")
    parser.add_argument("--rounds", type=int, default=7, help="times that both ways run, in alternation")
    parser.add_argument("--passes", type=int, default=3, help="passes of each trial in a round")
    parser.add_argument("--geometries", type=int, default=len(GEOMETRIES), help="how many of them, from the first")
    asked = parser.parse_args()
    resources, found = FixedLength(torch.device("cpu")), []
    for rows, length in GEOMETRIES[: asked.geometries]:
        found.append(compare(MODELS[asked.model], resources, rows, length, asked.rounds, asked.passes))
        print(found[-1], flush=True)
    facts = {**describe_software(), "device": describe_device(resources.device)}
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(FOLDER / f"auto_{asked.model}.json", {"found": [one._asdict() for one in found], "provenance": facts})
    write_text(FOLDER / f"auto_{asked.model}.md", page(asked.model, found, facts))


if __name__ == "__main__":
    main()
