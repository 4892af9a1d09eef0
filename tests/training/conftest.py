"""Shared rooms: a small data set of unequal examples, a model in 64 bits, and training as a trial does it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sweeplab.adapters.attach import attach_adapter
from sweeplab.config.model import ModelConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Windows
from sweeplab.data.tokens import IGNORED, Tokens
from sweeplab.models.base import Base
from sweeplab.records.record import Status, TrialRecord
from sweeplab.training.trial_state import Member
from sweeplab.trial.lifecycle import Run, member_of, num_steps
from sweeplab.trial.lifecycle import train as train_runs
from sweeplab.trial.resources import Resources, Tokenized

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
        return attach_adapter(tiny_llama().requires_grad_(False), adapter, ModelConfig(), seed=SEED).double()

    return make


@pytest.fixture
def train(embedded_base: Base, resources: Resources, tmp_path: Any) -> Callable[..., TrialRecord]:
    """`sweeplab.trial.lifecycle.train` on `model` alone, with what it told along the way in `record.params`."""

    def run(model: nn.Module, data: list[Tokens], config: TrialConfig) -> TrialRecord:
        spec = TrialSpec(0, SEED, {}, config, tmp_path)
        told: list[tuple[int, dict[str, float]]] = []
        record = TrialRecord(0, Status.FAILED, SEED, {"told": told}, {})
        tokenized = Tokenized(data, examples(5, seed=9), 0, "")
        windows = Windows(data, config.training.micro_batch_size, config.training.accumulation, SEED)
        steps = num_steps(config.training, windows.num_per_epoch)
        member = member_of(spec, model, None, steps, lambda _, step, values: told.append((step, values)))
        train_runs([Run(spec, record, embedded_base, tokenized, model, None, windows, member)], resources)
        evaluate_weights(member)
        record.step, record.num_train_tokens = member.step, member.num_tokens
        record.reason = None if member.early is None else member.early.reason
        record.losses, record.heldout_losses = member.losses, member.heldout_losses
        return record

    return run


def evaluate_weights(member: Member) -> None:
    """A schedule-free optimizer's average, which is what a trial evaluates and saves."""
    getattr(member.optimizer, "eval", lambda: None)()
