"""Which rank and rate? Asked twice, in processor time: `python -m experiments.benchmarks.answer [--steps 100]`.

`action=recommend`, and the script of `script.py`, on the embedded base and its facts. Both ways' settings are trained
on fresh seeds afterwards, which is not counted.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from experiments.benchmarks.makespan.__main__ import QUIET, peer_settings, rows_of
from experiments.benchmarks.makespan.settings import TINY, Trial, overrides, write_tasks

REPORT: Final = Path("reports/benchmarks/answer/report.md")
_RANKS: Final = [4, 16, 64]
_RATES: Final = [1e-4, 1e-1]
_FRESH: Final = (20, 21, 22, 23, 24)


class Cost(NamedTuple):
    """Of a command with all its processes."""

    wall_seconds: float
    processor_seconds: float


def _spend(folder: Path, *command: str) -> Cost:
    """Runs a command. Raises `RuntimeError` where it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (folder / "log").open("a") as log:
        code = subprocess.run(command, cwd=folder, stdout=log, stderr=log, env=os.environ | QUIET, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {code.returncode}; see {folder / 'log'}")
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Cost(time.perf_counter() - started, spent)


def _recommend(folder: Path, num_steps: int, within: float) -> tuple[dict[str, Any], Cost]:
    """`answer.json` of the study."""
    asked = ["action=recommend", f"study.within={within}", "study.budget=null", "tracking=none", "study.fresh_seeds=0"]
    alpha = ["~space.adapter.alpha_ratio", "adapter.alpha_ratio=2.0"]  # as the script, rank and rate
    cost = _spend(folder, sys.executable, "-m", "sweeplab", *asked, *alpha, *overrides(TINY, num_steps))
    return json.loads((folder / "reports/recommend/answer.json").read_text()), cost


def _write_job(folder: Path, num_steps: int) -> Path:
    """What the script trains on; making it is not timed."""
    write_tasks(folder / "tasks", TINY)
    made = {seed: rows_of(Trial(4, 1e-3, seed), num_steps) for seed in (0, 1, 2, 3)}
    job = peer_settings(Trial(4, 1e-3, 0), folder, num_steps) | {
        "rows": {seed: rows for seed, (rows, _) in made.items()},
        "heldout": made[0][1],
        "ranks": _RANKS,
        "rates": _RATES,
        "folder": str(folder / "trial"),
        "out": str(folder / "out.json"),
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def _measure_fresh(folder: Path, num_steps: int, rank: int, rate: float) -> list[float]:
    """Held-out losses of a setting with seeds that neither way has used."""
    asked = [f"study.name=fresh-{rank}-{rate:g}", f"study.seeds={list(_FRESH)}", "tracking=none", "evaluation=none"]
    setting = [f"adapter.rank={rank}", f"optimizer.lr={rate}", "study.objectives=[heldout_loss_nats_per_token]"]
    _spend(folder, sys.executable, "-m", "sweeplab", *asked, *setting, *overrides(TINY, num_steps))
    records = json.loads((folder / f"reports/fresh-{rank}-{rate:g}/records.json").read_text())["records"]
    return [one["heldout_loss_nats_per_token"] for one in records]


def _describe(name: str, rank: int, rate: float, losses: list[float], cost: Cost, num_trials: int) -> str:
    error = statistics.stdev(losses) / len(losses) ** 0.5
    return (
        f"| {name} | {rank} | {rate:.2g} | {statistics.fmean(losses):.3f} ± {error:.3f} | {num_trials} | "
        f"{cost.processor_seconds:.0f} | {cost.wall_seconds:.0f} |\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.answer", description=__doc__)
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps of every trial (default: 100)")
    parser.add_argument("--within", type=float, default=0.05, help="what may be lost, in nats (default: 0.05)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answer, ours = _recommend(folder, asked.steps, asked.within)
        job = _write_job(folder, asked.steps)
        theirs = _spend(folder, sys.executable, "-m", "experiments.benchmarks.answer.script", str(job))
        out = json.loads((folder / "out.json").read_text())
        best, params = out["answer"], answer["leading"]["params"]
        num_ours = len(list((folder / "runs/recommend/trials").glob("*/record.json")))
        losses = _measure_fresh(folder, asked.steps, params["adapter.rank"], params["optimizer.lr"])
        other = _measure_fresh(folder, asked.steps, best["rank"], best["rate"])
    trained = sum(one["train_seconds"] for one in out["trials"])
    lines = [
        "# From the command to the answer\n\n",
        f"`python -m experiments.benchmarks.answer --steps {asked.steps} --within {asked.within:g}`\n\n",
        "| way | rank | rate | held-out loss on five fresh seeds | trials | processor s | wall s |\n",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        _describe(f"`action=recommend` ({answer['state']})", params["adapter.rank"], params["optimizer.lr"], losses,
                  ours, num_ours),
        _describe("TPE 30, then 3 seeds of the best 5", best["rank"], best["rate"], other, theirs, len(out["trials"])),
        f"\nRatio of processor time: {theirs.processor_seconds / ours.processor_seconds:.1f}; of the script's training "
        f"alone, without lm-eval: {trained / ours.processor_seconds:.1f}. {answer['statement']}\n\n",
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.\n",
    ]  # fmt: skip
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("".join(lines), encoding="utf-8")
    print("".join(lines))


if __name__ == "__main__":
    main()
