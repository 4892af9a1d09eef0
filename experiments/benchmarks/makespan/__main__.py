"""Trials from start to report, four ways: `python -m experiments.benchmarks.makespan [--model smollm2]`."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from experiments.benchmarks.makespan.counted import count_ways
from experiments.benchmarks.makespan.report import write_report
from experiments.benchmarks.makespan.settings import (
    MODELS,
    NAME,
    TINY,
    Model,
    Trial,
    config_of,
    named,
    of_study,
    overrides,
    write_tasks,
)

WAYS: Final = ("packed", "solo", "one_process", "process_per_trial")
QUIET: Final = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}  # environment of a way


class Watched:
    """Runs commands and keeps the highest resident set of all their processes together, looked at every 0.1 s."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.peak_bytes = 0

    def __call__(self, *command: str) -> None:
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=os.environ | QUIET)
            watcher = threading.Thread(target=self.watch, args=(process.pid,), daemon=True)
            watcher.start()
            code = process.wait()
        if code:
            raise RuntimeError(f"{' '.join(command)} ended with {code}; see {self.folder / 'log'}")

    def watch(self, pid: int) -> None:
        try:
            root = psutil.Process(pid)
            while root.is_running():
                family = [root, *root.children(recursive=True)]
                self.peak_bytes = max(self.peak_bytes, sum(one.memory_info().rss for one in family))
                time.sleep(0.1)
        except psutil.Error:
            return


def sweeplab_losses(folder: Path) -> dict[Trial, float]:
    told = json.loads((folder / "reports" / NAME / "records.json").read_text())
    return {
        Trial(one["params"]["adapter.rank"], one["params"]["optimizer.lr"], one["seed"]): one[
            "heldout_loss_nats_per_token"
        ]
        for one in told["records"]
    }


def run_sweeplab(model: Model, folder: Path, num_steps: int, cohort_size: str) -> tuple[dict[Trial, float], int]:
    run = Watched(folder)
    study = [f"study.name={NAME}", f"study.seeds={list(model.seeds)}", f"executor.cohort_size={cohort_size}"]
    asked = [*overrides(model, num_steps), *of_study(model, folder / "tasks"), *study, "tracking=none"]
    run(sys.executable, "-m", "sweeplab", *asked)
    return sweeplab_losses(folder), run.peak_bytes


def rows_of(trial: Trial, num_steps: int, model: Model = TINY) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the trial trains on, in its order, and the held-out rows."""
    from itertools import islice

    from sweeplab.config.executor import LocalWorkers
    from sweeplab.data.batches import Windows
    from sweeplab.trial.resources import Resources

    config = config_of(trial, num_steps, model)
    resources = Resources.open(LocalWorkers(device="cpu", num_workers=1, cohort_size=1, on_out_of_memory="skip"))
    data = resources.tokens_for(config, resources.base_for(config))
    windows = Windows(data.train, config.training.micro_batch_size, 1, trial.seed)
    rows = [
        data.train[index]
        for window in islice(windows.iterate_from(0), num_steps)
        for micro in window
        for index in micro.indices
    ]
    return plain(rows), plain(data.heldout)


def plain(rows: Any) -> list[dict[str, Any]]:
    return [{"ids": row.ids.tolist(), "labels": row.labels.tolist()} for row in rows]


def peer_settings(trial: Trial, folder: Path, num_steps: int, model: Model = TINY) -> dict[str, Any]:
    """What all trials of a peer have in common with those of the study."""
    config = config_of(trial, num_steps, model)
    return {
        "base": model.base,
        "target_modules": list(model.target_modules),
        "num_steps": num_steps,
        "micro_batch_size": config.training.micro_batch_size,
        "weight_decay": config.optimizer.arguments()["weight_decay"],
        "evaluation_batch_size": config.evaluation.batch_size,
        "tasks": list(model.tasks),
        "tasks_folder": str(folder / "tasks"),
        "limit": model.limit,
    }


def job_of(model: Model, trials: list[Trial], folder: Path, num_steps: int, evaluate: bool) -> dict[str, Any]:
    made = [(trial, *rows_of(trial, num_steps, model)) for trial in trials]
    return peer_settings(trials[0], folder, num_steps, model) | {
        "trials": [{**trial._asdict(), "folder": str(named(folder, trial)), "rows": rows} for trial, rows, _ in made],
        "heldout": made[0][2],
        "evaluate": evaluate,
        "out": str(folder / "out.json"),
    }


def told(job: dict[str, Any], trials: list[Trial]) -> dict[Trial, float]:
    out = json.loads(Path(job["out"]).read_text())
    return {trial: one["heldout_loss"] for trial, one in zip(trials, out, strict=True)}


PEER: Final = str(Path(__file__).parent / "peer.py")


def prepare(model: Model, folder: Path, trials: list[Trial], num_steps: int, evaluate: bool) -> list[dict[str, Any]]:
    """Jobs, which a user has as files: making them is not timed."""
    groups = [trials] if evaluate else [[trial] for trial in trials]
    jobs = []
    for place, group in enumerate(groups):
        job = job_of(model, group, folder, num_steps, evaluate) | {"out": str(folder / f"out{place}.json")}
        (folder / f"job{place}.json").write_text(json.dumps(job))
        jobs.append(job)
    return jobs


def run_one_process(folder: Path, jobs: list[dict[str, Any]], trials: list[Trial]) -> tuple[dict[Trial, float], int]:
    """The base loaded once, Trainer and lm-eval on trial after trial."""
    run = Watched(folder)
    run(sys.executable, PEER, str(folder / "job0.json"))
    return told(jobs[0], trials), run.peak_bytes


def run_process_per_trial(
    folder: Path, jobs: list[dict[str, Any]], trials: list[Trial]
) -> tuple[dict[Trial, float], int]:
    """A process that trains and one of lm-eval's command line for every trial."""
    run, losses = Watched(folder), dict[Trial, float]()
    for place, (trial, job) in enumerate(zip(trials, jobs, strict=True)):
        run(sys.executable, PEER, str(folder / f"job{place}.json"))
        arguments = f"pretrained={job['base']},peft={named(folder, trial)},dtype=float32"
        run(
            sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", arguments,
            "--tasks", ",".join(job["tasks"]), "--include_path", job["tasks_folder"], "--device", "cpu",
            "--batch_size", str(job["evaluation_batch_size"]), "--output_path", str(named(folder, trial)),
            *([] if job["limit"] is None else ["--limit", str(job["limit"])]),
        )  # fmt: skip
        losses |= told(job, [trial])
    return losses, run.peak_bytes


def processor_seconds() -> float:
    """Of all commands that have ended, and of what they had started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def timed(work: Callable[[], tuple[dict[Trial, float], int]]) -> dict[str, Any]:
    started, before = time.perf_counter(), processor_seconds()
    losses, peak_bytes = work()
    return {
        "seconds": time.perf_counter() - started,
        "processor_seconds": processor_seconds() - before,
        "peak_bytes": peak_bytes,
        "losses": {str(tuple(one)): loss for one, loss in losses.items()},
    }


def measure(model: Model, way: str, num_steps: int, num_peer_trials: int) -> dict[str, Any]:
    """One way through all trials, in a fresh folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tasks(folder / "tasks", model)
        if way in ("packed", "solo"):
            size = "auto" if way == "packed" else "1"
            found = timed(lambda: run_sweeplab(model, folder, num_steps, size))
            return found | {"num_trials": len(model.trials)}
        trials = model.trials if way == "one_process" else model.trials[:num_peer_trials]
        jobs = prepare(model, folder, trials, num_steps, evaluate=way == "one_process")
        run = run_one_process if way == "one_process" else run_process_per_trial
        return timed(lambda: run(folder, jobs, trials)) | {"num_trials": len(trials)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.makespan", description=__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="tiny_base", help="the base (default: tiny_base)")
    parser.add_argument("--steps", type=int, help="optimizer steps of every trial (default: the model's)")
    parser.add_argument("--rounds", type=int, default=2, help="times that every way runs, in turn (default: 2)")
    parser.add_argument("--peer-trials", type=int, default=16, help="trials of process_per_trial, the slowest way")
    parser.add_argument("--count", action="store_true", help="count multiply-adds of a trial in each way, too")
    asked = parser.parse_args()
    model = MODELS[asked.model]
    num_steps = asked.steps or model.num_steps
    results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    counts = count_ways(asked.model, num_steps) if asked.count else {}
    for _ in range(asked.rounds):
        for way in WAYS:
            results[way].append(measure(model, way, num_steps, asked.peer_trials))
            last = results[way][-1]
            told = f"{last['seconds']:.1f} s, {last['processor_seconds']:.1f} s of processor"
            print(f"{way}: {told} for {last['num_trials']} trials", flush=True)
        write_report(asked.model, results, num_steps, counts)  # of the rounds that there are, should one be ended


if __name__ == "__main__":
    main()
