"""Synthetic records: what a trial would have left, without training one."""

from collections.abc import Callable
from typing import Any

import pytest

from sweeplab.records.record import HeldoutPoint, Phase, Score, Status, StudyFacts, TrialRecord

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


@pytest.fixture
def make_record() -> RecordFactory:
    """Record `number` with `params`, `seed` and `loss`; a loss of None is a trial that failed."""

    def make(
        number: int,
        params: dict[str, Any],
        seed: int = 0,
        loss: float | None = 1.0,
        scores: dict[str, dict[str, Score]] | None = None,
        **others: Any,
    ) -> TrialRecord:
        finished = loss is not None
        values: dict[str, Any] = {
            "config": {},
            "status": Status.FINISHED if finished else Status.FAILED,
            "reason": None if finished else "it broke",
            "phase": None if finished else "train",
            "step": 40 if finished else 7,
            "num_trainable_params": 1000,
            "num_total_params": 100_000,
            "adapter_bytes": 4096,
            "phases": {
                "load": Phase(1.5, 200 * 2**20),
                "train": Phase(10.0 + seed, 512 * 2**20),
                "evaluate": Phase(4.0, 300 * 2**20),
            },
            "heldout_losses": [HeldoutPoint(0, 3.0), HeldoutPoint(40, loss)] if loss is not None else [],
            "heldout_loss_nats_per_token": loss,
            "scores": scores or {},
            "provenance": {"commit": "abc123", "versions": {"torch": "2.13.0"}},
        }
        return TrialRecord(number=number, seed=seed, params=params, **(values | others))

    return make


@pytest.fixture
def make_facts() -> FactsFactory:
    def make(**others: Any) -> StudyFacts:
        values: dict[str, Any] = {
            "name": "rank_sweep",
            "question": "Which rank is enough?",
            "command": "python -m sweeplab +experiment=rank_sweep",
            "objectives": {"heldout_loss_nats_per_token": "minimize"},
            "seeds": [0],
            "space": {"adapter.rank": {"choices": [4, 8, 16]}},
            "num_planned": None,
            "config": {"training": {"epochs": 3}},
        }
        return StudyFacts(**(values | others))

    return make
