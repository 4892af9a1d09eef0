"""Shared rooms: a small data set of unequal examples, a model in 64 bits, and training as a trial does it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sweeplab.adapters.attach import attach_adapter
from sweeplab.config.model import HubModel
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Tokenized
from sweeplab.data.tokens import IGNORED, Tokens
from sweeplab.models.base import Base
from sweeplab.records.record import Status, TrialRecord
from sweeplab.training.fit import fit_until_one_ends
from sweeplab.training.running_trial import RunningTrial
from sweeplab.training.start import start_trial
from sweeplab.trial.resources import Resources

SEED = 5


def examples(count: int, seed: int) -> list[Tokens]:
    """Unequal lengths, unequal numbers of targets."""
    made = []
    for place in range(count):
        length = 3 + (place * 5 + seed) % 11
        ids = torch.randint(2, 128, (length,), generator=torch.Generator().manual_seed(100 * seed + place)).tolist()
        num_prompt = 1 + place % (length - 2)
        made.append(Tokens(ids, [IGNORED] * num_prompt + ids[num_prompt:]))
    return made


@pytest.fixture
def new_model(tiny_llama: Callable[..., Any], compose_trial: Any) -> Callable[..., nn.Module]:
    """The same adapted Llama in 64 bits at every call."""

    def make(dropout: float = 0.0) -> nn.Module:
        chosen = ("adapter.rank=3", f"adapter.dropout={dropout}", "adapter.lora_mlp=true", "adapter.lora_head=true")
        adapter = compose_trial(*chosen).adapter
        return attach_adapter(tiny_llama().requires_grad_(False), adapter, HubModel(name="any"), seed=SEED).double()

    return make


@pytest.fixture
def train(embedded_base: Base, resources: Resources, tmp_path: Any) -> Callable[..., TrialRecord]:
    """`fit_until_one_ends` on `model` alone, with what it told along the way in `record.params`."""

    def run(model: nn.Module, data: list[Tokens], config: TrialConfig) -> TrialRecord:
        spec = TrialSpec(0, SEED, {}, config, tmp_path)
        told: list[tuple[int, dict[str, float]]] = []
        record = TrialRecord(0, Status.FAILED, SEED, {"told": told}, {})
        tokenized = Tokenized(data, examples(5, seed=9), 0, "")
        trial = start_trial(
            spec, record, embedded_base, tokenized, model, None, lambda _, step, values: told.append((step, values))
        )
        fit_until_one_ends([trial], resources.device)
        evaluate_weights(trial)
        record.step, record.num_train_tokens = trial.step, trial.num_tokens
        record.reason = None if trial.early_end is None else trial.early_end.reason
        record.losses, record.heldout_losses = trial.losses, trial.heldout_losses
        return record

    return run


def evaluate_weights(trial: RunningTrial) -> None:
    """A schedule-free optimizer's average, which is what a trial evaluates and saves."""
    getattr(trial.optimizer, "eval", lambda: None)()
