"""Multiply-adds of a trial in each way, by PyTorch's counter: `... makespan.counted MODEL WAY STEPS`.

Of a trial's training, held-out loss and tasks; the base's own scores are not in it. The ways of one process and of two
have the same.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from experiments.benchmarks.makespan import peer
from experiments.benchmarks.makespan.counting import ProductCount
from experiments.benchmarks.makespan.settings import MODELS, Model, config_of, write_tasks
from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.executor import LocalWorkers
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources

_COUNTED: Final = ("packed", "one_process")
_SAME: Final = {"solo": "packed", "process_per_trial": "one_process"}  # packing adds no product on padding-free rows


def count_ours(model: Model, folder: Path, num_steps: int) -> int:
    """Of the first trial by itself, with its base's scores already there."""
    write_tasks(folder / "tasks", model)
    config = config_of(model.trials[0], num_steps, model)
    scored = EvaluationConfig.model_validate(
        config.evaluation.to_dict()
        | {"tasks": list(model.tasks), "include_path": model.items and str(folder / "tasks"), "limit": model.limit}
    )
    config = config.replaced(evaluation=scored)
    resources = Resources.open(LocalWorkers(device="cpu", num_workers=1, cohort_size=1, on_out_of_memory="skip"))
    spec = TrialSpec(0, 0, {}, config, folder / "study" / "trials" / "00000")
    warm = replace(spec, config=config.replaced(training=config.training.replaced(max_steps=1)))

    def run(one: TrialSpec) -> None:
        (record,) = run_cohort([one], resources, lambda *_: None, lambda _: None, lambda: [])
        assert record.status.value == "finished", record.reason

    run(warm)  # scores the base
    counter = ProductCount()
    with counter:
        run(spec)
    return counter.multiply_adds


def count_peer(model: Model, folder: Path, num_steps: int) -> int:
    """Of the first trial with PEFT, Trainer and lm-eval."""
    from experiments.benchmarks.makespan.__main__ import job_of

    write_tasks(folder / "tasks", model)
    (folder / "job.json").write_text(json.dumps(job_of(model, model.trials[:1], folder, num_steps, evaluate=True)))
    sys.argv = ["peer.py", str(folder / "job.json")]
    counter = ProductCount()
    with counter:
        peer.main()
    return counter.multiply_adds


def count_ways(model: str, num_steps: int) -> dict[str, int]:
    """Multiply-adds of a trial by way, each counted in a process of its own."""
    counts = {}
    for way in _COUNTED:
        command = [sys.executable, "-m", "experiments.benchmarks.makespan.counted", model, way, str(num_steps)]
        told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
        counts[way] = int(told.splitlines()[-1])
    return counts | {way: counts[same] for way, same in _SAME.items()}


if __name__ == "__main__":
    _, name, chosen, steps = sys.argv
    with tempfile.TemporaryDirectory() as made:
        count = count_ours if chosen == "packed" else count_peer
        print(count(MODELS[name], Path(made), int(steps)))
