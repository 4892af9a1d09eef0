"""Log-likelihoods of chosen tokens against log-softmax of all positions' logits."""

from typing import Any, Final

import pytest
import torch

from sweeplab.logits import states
from sweeplab.logits.likelihood import score_targets

IDS: Final = torch.tensor([[5, 9, 20, 31, 7], [8, 11, 3, 2, 6]])
ROWS: Final = torch.tensor([1, 0, 1, 0, 0, 1])  # two pairs at one position each, in no order
COLUMNS: Final = torch.tensor([4, 2, 0, 2, 4, 4])


@pytest.mark.parametrize("positions", [1, 3, 1000])
def test_every_target_has_its_position_and_its_token(
    tiny_llama: Any, monkeypatch: pytest.MonkeyPatch, positions: int
) -> None:
    model = tiny_llama().eval()
    with torch.no_grad():
        logs = model(input_ids=IDS).logits.log_softmax(dim=-1)
    targets = torch.tensor([3, 7, 9, 0, 1, 2])
    targets[3] = logs[0, 2].argmax()
    monkeypatch.setattr(states, "_CHUNK_BYTES", 4 * 128 * positions)
    found, likeliest = score_targets(model, {"input_ids": IDS}, ROWS, COLUMNS, targets)
    torch.testing.assert_close(found, logs[ROWS, COLUMNS, targets], rtol=1e-12, atol=0)
    assert likeliest.tolist() == [False, False, False, True, False, False]
    assert not found.requires_grad
    in_32_bits, _ = score_targets(model, {"input_ids": IDS}, ROWS, COLUMNS, targets, torch.float32)
    assert in_32_bits.dtype is torch.float32
