"""Sixteen trials from start to report, four ways: `python -m experiments.benchmarks.makespan [--steps 50]`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from experiments.benchmarks.makespan.report import write_report
from experiments.benchmarks.makespan.settings import (
    NAME,
    SEEDS,
    TASKS,
    TRIALS,
    Trial,
    config_of,
    named,
    overrides,
    space,
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


def run_sweeplab(folder: Path, num_steps: int, cohort_size: str) -> tuple[dict[Trial, float], int]:
    run = Watched(folder)
    study = [f"study.name={NAME}", f"study.seeds={list(SEEDS)}", f"executor.cohort_size={cohort_size}", "tracking=none"]
    run(sys.executable, "-m", "sweeplab", *overrides(num_steps), *space(), *study)
    return sweeplab_losses(folder), run.peak_bytes


def rows_of(trial: Trial, num_steps: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the trial trains on, in its order, and the held-out rows."""
    from itertools import islice

    from sweeplab.config.executor import LocalWorkers
    from sweeplab.data.batches import Windows
    from sweeplab.trial.resources import Resources

    config = config_of(trial, num_steps)
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


def write_tasks(folder: Path) -> None:
    """The four tasks as files for lm-eval's command line."""
    from sweeplab.builtin.tasks import WORLD_TASKS, make_documents

    folder.mkdir()
    for name in TASKS:
        skill = name.removeprefix("tiny_").removesuffix("_choice")
        data = folder / f"{name}.jsonl"
        make_documents(skill)["test"].to_json(str(data))
        task = {key: value for key, value in WORLD_TASKS[name].items() if key != "custom_dataset"}
        task |= {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
        (folder / f"{name}.yaml").write_text(json.dumps(task))  # which is YAML too


def peer_settings(trial: Trial, folder: Path, num_steps: int) -> dict[str, Any]:
    """What all trials of a peer have in common with those of the study."""
    from sweeplab.models.base import _EMBEDDED

    config = config_of(trial, num_steps)
    return {
        "base": str(_EMBEDDED),
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"],
        "num_steps": num_steps,
        "micro_batch_size": config.training.micro_batch_size,
        "weight_decay": config.optimizer.arguments()["weight_decay"],
        "evaluation_batch_size": config.evaluation.batch_size,
        "tasks": list(TASKS),
        "tasks_folder": str(folder / "tasks"),
    }


def job_of(trials: list[Trial], folder: Path, num_steps: int, evaluate: bool) -> dict[str, Any]:
    made = [(trial, *rows_of(trial, num_steps)) for trial in trials]
    return peer_settings(trials[0], folder, num_steps) | {
        "trials": [{**trial._asdict(), "folder": str(named(folder, trial)), "rows": rows} for trial, rows, _ in made],
        "heldout": made[0][2],
        "evaluate": evaluate,
        "out": str(folder / "out.json"),
    }


def told(job: dict[str, Any], trials: list[Trial]) -> dict[Trial, float]:
    out = json.loads(Path(job["out"]).read_text())
    return {trial: one["heldout_loss"] for trial, one in zip(trials, out, strict=True)}


PEER: Final = str(Path(__file__).parent / "peer.py")


def prepare(folder: Path, trials: list[Trial], num_steps: int, evaluate: bool) -> list[dict[str, Any]]:
    """Jobs, which a user has as files: making them is not timed."""
    write_tasks(folder / "tasks")
    groups = [trials] if evaluate else [[trial] for trial in trials]
    jobs = []
    for place, group in enumerate(groups):
        job = job_of(group, folder, num_steps, evaluate) | {"out": str(folder / f"out{place}.json")}
        (folder / f"job{place}.json").write_text(json.dumps(job))
        jobs.append(job)
    return jobs


def run_one_process(folder: Path, jobs: list[dict[str, Any]]) -> tuple[dict[Trial, float], int]:
    """The base loaded once, Trainer and lm-eval on trial after trial."""
    run = Watched(folder)
    run(sys.executable, PEER, str(folder / "job0.json"))
    return told(jobs[0], TRIALS), run.peak_bytes


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
            "--tasks", ",".join(TASKS), "--include_path", job["tasks_folder"], "--device", "cpu",
            "--batch_size", str(job["evaluation_batch_size"]), "--output_path", str(named(folder, trial)),
        )  # fmt: skip
        losses |= told(job, [trial])
    return losses, run.peak_bytes


def timed(work: Callable[[], tuple[dict[Trial, float], int]]) -> dict[str, Any]:
    started = time.perf_counter()
    losses, peak_bytes = work()
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "peak_bytes": peak_bytes,
        "losses": {str(tuple(one)): loss for one, loss in losses.items()},
    }


def measure(way: str, num_steps: int, num_peer_trials: int) -> dict[str, Any]:
    """One way through all trials, in a fresh folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if way in ("packed", "solo"):
            size = "auto" if way == "packed" else "1"
            return timed(lambda: run_sweeplab(folder, num_steps, size)) | {"num_trials": len(TRIALS)}
        trials = TRIALS if way == "one_process" else TRIALS[:num_peer_trials]
        jobs = prepare(folder, trials, num_steps, evaluate=way == "one_process")
        if way == "one_process":
            return timed(lambda: run_one_process(folder, jobs)) | {"num_trials": len(trials)}
        return timed(lambda: run_process_per_trial(folder, jobs, trials)) | {"num_trials": len(trials)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.makespan", description=__doc__)
    parser.add_argument("--steps", type=int, default=50, help="optimizer steps of every trial (default: 50)")
    parser.add_argument("--rounds", type=int, default=2, help="times that every way runs, in turn (default: 2)")
    parser.add_argument("--peer-trials", type=int, default=16, help="trials of process_per_trial, the slowest way")
    asked = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(asked.rounds):
        for way in WAYS:
            results[way].append(measure(way, asked.steps, asked.peer_trials))
            print(f"{way}: {results[way][-1]['seconds']:.1f} s for {results[way][-1]['num_trials']} trials", flush=True)
    write_report(results, asked.steps)


if __name__ == "__main__":
    main()
