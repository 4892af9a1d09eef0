"""Trials at once against each alone in bfloat16, as a GPU computes, on the CPU."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn

import sweeplab.training.fit as fit
from experiments.benchmarks.gpu.cohorts import equality
from experiments.benchmarks.gpu.trials import Laboratory
from sweeplab.config.trial import TrialConfig
from sweeplab.multilora.batches import CohortBatch, iterate_cohort_batches
from tests.trials import Compose

LENGTHS: Final = [24, 40, 20, 48, 36]  # no multiples of attention's blocks; another order for each seed
NUM_TRIALS: Final = 3  # two of unlike seeds would not be trained together
MOST_ROWS: Final = 64


@pytest.fixture
def config(compose_trial: Compose) -> TrialConfig:
    return compose_trial(
        "quantization=none",
        "adapter.rank=8",
        "training.max_steps=3",
        "training.micro_batch_size=1",
        "training.log_interval=1",
        "training.precision=bfloat16",
        "schedule=constant",
        "optimizer.lr=3e-4",
        "evaluation=none",
    )


class _Product(torch.autograd.Function):
    """x w^T in bfloat16, rounded once, whose sum is one part for up to `MOST_ROWS` rows and two above, as a GPU's
    library takes other kernels for other shapes."""

    @staticmethod
    def multiply(x_NI: Tensor, w_IO: Tensor) -> Tensor:
        x_NI, w_IO = x_NI.float(), w_IO.float()
        if len(x_NI) <= MOST_ROWS:
            return (x_NI @ w_IO).bfloat16()
        half = x_NI.shape[1] // 2
        return (x_NI[:, :half] @ w_IO[:half] + x_NI[:, half:] @ w_IO[half:]).bfloat16()

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_OI: Tensor) -> Tensor:
        ctx.w_OI = w_OI
        return _Product.multiply(x.reshape(-1, x.shape[-1]), w_OI.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        return _Product.multiply(grad.reshape(-1, grad.shape[-1]), ctx.w_OI).view(*grad.shape[:-1], -1), None


def test_in_bfloat16_padding_to_longer_rows_changes_a_trial_by_less_than_one_rounding(config: TrialConfig) -> None:
    """Rows end at attention's blocks, so that it sums those of a trial in one order whatever stands beside them."""
    lab = Laboratory.on("cpu", cohort_size=1)
    lab.lengths = LENGTHS
    found = equality(lab, config, LENGTHS, NUM_TRIALS)
    assert found["equal"], found


def test_in_bfloat16_other_kernels_for_more_rows_change_a_trial_by_less_than_one_rounding(
    config: TrialConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = nn.functional.linear

    def multiply(x: Tensor, w_OI: Tensor, bias: Tensor | None = None) -> Tensor:
        if w_OI.dtype is torch.bfloat16 and not w_OI.requires_grad:
            assert bias is None
            product: Tensor = _Product.apply(x, w_OI)  # type: ignore[no-untyped-call]
            return product
        return real(x, w_OI, bias)

    monkeypatch.setattr(nn.functional, "linear", multiply)
    lab = Laboratory.on("cpu", cohort_size=1)
    lab.lengths = LENGTHS
    found = equality(lab, config, LENGTHS, NUM_TRIALS)
    assert found["equal"], found
    assert found["largest_loss_difference_nats"] > 0


def test_a_trial_that_trains_on_the_rows_of_another_is_no_rounding(
    config: TrialConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchange(trials: Any, *arguments: Any) -> Iterator[CohortBatch]:
        return iterate_cohort_batches([*trials[1:], trials[0]], *arguments)

    monkeypatch.setattr(fit, "iterate_cohort_batches", exchange)
    lab = Laboratory.on("cpu", cohort_size=1)
    lab.lengths = LENGTHS
    found = equality(lab, config, LENGTHS, NUM_TRIALS)
    assert not found["equal"]
    assert min(found["weight_differences"]) > 3 * max(found["peft_sensitivities"])
