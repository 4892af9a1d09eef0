"""Logits at their highest, by hand; `test_phases.py` holds them against the live tensors of a real step."""

import torch

from sweeplab.adapters.counting import build_skeleton
from sweeplab.planning.loss import ScoredRows, forecast_logits
from tests.planning.conftest import CPU, CUDA
from tests.planning.models import QV, planned
from tests.trials import Compose


def test_logits_by_hand(compose_trial: Compose) -> None:
    """A hidden size of 128."""
    sizes = build_skeleton(planned(compose_trial, "llama", QV, batch=1, vocab_size=10).model)
    assert forecast_logits(sizes, ScoredRows(1, 8, 7), CPU, True) == (10 * 60, 10 * 84)  # 4 (8 + 7) and 12 x 7
    assert forecast_logits(sizes, ScoredRows(1, 8, 7), CUDA, True) == (10 * 58, 10 * 84)  # 2 x 8 + 2 x 7 + 4 x 7
    assert forecast_logits(sizes, ScoredRows(1, 8, 1), CPU, True) == (10 * 36, 10 * 64)  # 4 (8 + 1) and 2 x 4 x 8
    states = 4 * 128
    assert forecast_logits(sizes, ScoredRows(1, 8, 7), CPU, False) == (10 * 8 * 7 + states * 14, states * 15)
    million = sizes._replace(vocab_size=1 << 20)  # 8 positions of 4 MiB fit into a chunk, on a GPU 64
    for device, positions in ((CPU._replace(dtype=torch.bfloat16), 8), (CUDA, 64)):
        chunk, states = positions * (1 << 20), 2 * 128
        found = forecast_logits(million, ScoredRows(1, 100, 90), device, False)
        assert found == (8 * chunk + states * 180, states * 190)
        found = forecast_logits(million, ScoredRows(1, 100, 90), device, False, True)
        assert found.forward == (8 + 2 + 4) * chunk + states * 180  # of an adapted head
