"""Which bases make a trial's numbers depend on the rows of other trials."""

from typing import Any

import pytest
import torch
from torch import nn

from sweeplab.data.tokens import Tokens
from sweeplab.models.base import Base
from sweeplab.trial.exactness import why_own_batches


class Linear8bitLt(nn.Linear):
    """Known by its name, as bitsandbytes' layer is."""


@pytest.mark.parametrize(("layer", "device", "is_alone"), [(Linear8bitLt, "cuda", True), (Linear8bitLt, "cpu", False)])
def test_int8_on_cuda_shares_no_batch(layer: Any, device: str, is_alone: bool) -> None:
    """On CUDA an outlier in any row makes its column one of all rows; on a CPU rows are computed apart."""
    model: Any = nn.Sequential(layer(4, 4))
    model.device, model.config = torch.device(device), None
    base = Base(model, None, 16, 8.0, "none", draws_random_numbers=False)
    why = why_own_batches(base, [Tokens([1, 2], [1, 2])])
    assert (why is not None) == is_alone
    assert why is None or why.startswith("int8 on CUDA")
