"""What people script: Optuna's TPE over PEFT and transformers' Trainer, then more seeds of the best.

`script.py JOB.json`: 30 trials of rank and rate with one seed, then three more seeds of the best five, each scored by
held-out loss and by lm-eval in the same process. Writes every trial with its processor seconds, and the setting of the
best mean over the three seeds.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Final

import optuna
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments.benchmarks.makespan.peer import heldout_loss, score, train

_NUM_TRIALS: Final = 30
_NUM_TOP: Final = 5
_FURTHER_SEEDS: Final = (1, 2, 3)


class Script:
    """Trials one after another on one base."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.tokenizer = AutoTokenizer.from_pretrained(job["base"])
        self.base = AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32)
        self.told: list[dict[str, Any]] = []

    def run(self, rank: int, rate: float, seed: int) -> float:
        """Trains and scores a trial; its held-out loss, which is infinite where training diverged."""
        trial = {"rank": rank, "rate": rate, "seed": seed, "rows": self.job["rows"][str(seed)]}
        started = time.process_time()
        model = train(self.base, trial, self.job, Path(self.job["folder"]))
        loss = heldout_loss(model, self.job["heldout"], self.job["evaluation_batch_size"])
        trained = time.process_time()
        score(model, self.tokenizer, self.job)
        scored = time.process_time()
        self.base = model.unload()
        loss = loss if math.isfinite(loss) else math.inf
        seconds = {"train_seconds": trained - started, "score_seconds": scored - trained}
        self.told.append({"rank": rank, "rate": rate, "seed": seed, "loss": loss, **seconds})
        return loss

    def choose(self) -> dict[str, Any]:
        """The setting with the best mean over further seeds."""
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, multivariate=True))
        for _ in range(_NUM_TRIALS):
            trial = study.ask()
            rank = trial.suggest_categorical("rank", self.job["ranks"])
            rate = trial.suggest_float("rate", *self.job["rates"], log=True)
            loss = self.run(rank, rate, 0)
            study.tell(trial, min(loss, 1e6))
        best = sorted(study.trials, key=lambda one: one.value if one.value is not None else math.inf)[:_NUM_TOP]
        means = []
        for one in best:
            losses = [self.run(one.params["rank"], one.params["rate"], seed) for seed in _FURTHER_SEEDS]
            means.append((sum(losses) / len(losses), one.params))
        mean, params = min(means, key=lambda pair: pair[0])
        return {**params, "mean": mean}


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    job = json.loads(Path(sys.argv[1]).read_text())
    script = Script(job)
    answer = script.choose()
    Path(job["out"]).write_text(json.dumps({"answer": answer, "trials": script.told}))


if __name__ == "__main__":
    main()
