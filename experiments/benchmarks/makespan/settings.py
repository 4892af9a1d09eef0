"""The sixteen trials that every way runs, and what they have in common."""

from pathlib import Path
from typing import Any, Final, NamedTuple

from hydra import initialize_config_dir

from sweeplab.config.compose import trial_config
from sweeplab.config.conf import CONF
from sweeplab.config.trial import TrialConfig

RANKS: Final = (2, 8, 16, 32)
RATES: Final = (1e-3, 3e-3)
SEEDS: Final = (0, 1)
NAME: Final = "makespan"
TASKS: Final = ("tiny_new_facts", "tiny_new_facts_choice", "tiny_old_facts", "tiny_old_facts_choice")


class Trial(NamedTuple):
    rank: int
    rate: float
    seed: int


TRIALS: Final = [Trial(rank, rate, seed) for seed in SEEDS for rank in RANKS for rate in RATES]


def overrides(num_steps: int) -> list[str]:
    """LoRA on all matrices in 32 bits, AdamW, half a cosine without warmup, as the peers have it by default too."""
    toggles = [f"adapter.lora_{name}=true" for name in ("query", "key", "value", "projection", "mlp", "head")]
    return [
        *toggles,
        "quantization=none",
        "training.precision=float32",
        "schedule=cosine",
        "schedule.warmup_steps=0",
        "training.gradient_clip=1.0",
        f"training.max_steps={num_steps}",
    ]


def space() -> list[str]:
    return [f"space.adapter.rank.choices={list(RANKS)}", f"space.optimizer.lr.choices={list(RATES)}"]


def config_of(trial: Trial, num_steps: int) -> TrialConfig:
    params: dict[str, Any] = {"adapter.rank": trial.rank, "optimizer.lr": trial.rate}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return trial_config(overrides(num_steps), params)


def named(folder: Path, trial: Trial) -> Path:
    """Where a way leaves what it made of a trial."""
    return folder / f"rank{trial.rank}-lr{trial.rate:g}-seed{trial.seed}"
