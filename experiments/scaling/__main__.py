"""A study of 10,000 trials on 8 to 1,024 GPUs, simulated: `python -m experiments.scaling [--seed 0]`."""

import argparse
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from experiments.scaling.model import Outcome, Plan, Service, Simulation, fixed
from experiments.scaling.report import write_report
from sweeplab.records.store import read_json

RECORDS: Final = Path("reports/rank_sweep/records.json")
DRIVER: Final = Path("reports/benchmarks/driver/results.json")
NUM_TRIALS: Final = 10_000
NUM_GPUS: Final = (8, 16, 32, 64, 128, 256, 512, 1024)
MEAN_SECONDS: Final = (60, 600, 3600)  # of a trial that is not stopped
STEPS: Final = 200
RUNGS: Final = (1 / 16, 1 / 4, 1.0)
ASSUMED: Final[dict[str, Any]] = {
    "rungs": RUNGS,
    "reduction": 4,
    "failures_per_gpu_second": 1 / (100 * 3600),
    "restart_seconds": 30.0,
    "straggler_share": 0.02,
    "straggler_factor": 3.0,
}


def relative_times(path: Path) -> list[float]:
    """Measured seconds of trials over their mean: each alone, `STEPS` optimizer steps and its share of evaluation."""
    records = read_json(path)["records"]
    seconds = [
        STEPS * one["solo"]["step_seconds"] + one["phases"]["evaluate"]["seconds"] / len(one["cohort"])
        for one in records
    ]
    mean = statistics.mean(seconds)
    return [one / mean for one in seconds]


def measured_service(path: Path) -> Service:
    """Seconds of the driver for one of each, at the largest study that was measured."""
    parts = read_json(path)["rows"][-1]["milliseconds"]
    return Service(
        ask=(parts["ask"] + parts["compose"]) / 1e3,
        observe=parts["observe"] / 1e3,
        record=(parts["record"] + parts["tell"]) / 1e3,
    )


def scaled(times: list[float], mean: float) -> Callable[[random.Random], float]:
    def trial_seconds(numbers: random.Random) -> float:
        return mean * numbers.choice(times)

    return trial_seconds


def row(plan: Plan, mean_seconds: float, outcome: Outcome) -> dict[str, Any]:
    """`ideal` is the GPU time that was used, spread evenly: no order of the trials ends sooner."""
    ideal = outcome.gpu_seconds / plan.num_gpus
    return {
        "mean_trial_seconds": mean_seconds,
        "num_gpus": plan.num_gpus,
        "makespan_hours": outcome.makespan / 3600,
        "ideal_hours": ideal / 3600,
        "efficiency": ideal / outcome.makespan,
        "driver_load": outcome.driver_seconds / outcome.makespan,
        "calls_per_second": outcome.num_calls / outcome.makespan,
        "wait_seconds_per_trial": outcome.waited_seconds / plan.num_trials,
        "num_finished": outcome.num_finished,
        "num_stopped": outcome.num_stopped,
        "num_failed": outcome.num_failed,
        "num_retries": outcome.num_retries,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.scaling", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the simulation (default: 0)")
    seed = parser.parse_args().seed
    times, means = relative_times(RECORDS), measured_service(DRIVER)
    rows = []
    for mean_seconds in MEAN_SECONDS:
        for num_gpus in NUM_GPUS:
            plan = Plan(NUM_TRIALS, num_gpus, scaled(times, mean_seconds), fixed, means, **ASSUMED)
            rows.append(row(plan, mean_seconds, Simulation(plan, seed).run()))
    write_report(rows, seed, means, ASSUMED)


if __name__ == "__main__":
    main()
