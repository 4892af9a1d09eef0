"""Trials at once against each alone in bfloat16, as a GPU computes, on the CPU."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn

import sweeplab.training.fit as fit
from experiments.benchmarks.gpu.cohorts import equality
from experiments.benchmarks.gpu.trials import Laboratory
from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.config.adapter import AdapterConfig
from sweeplab.config.model import HubModel
from sweeplab.config.trial import TrialConfig
from sweeplab.multilora.batches import CohortBatch, iterate_cohort_batches
from sweeplab.multilora.packed import PackedAdapters
from sweeplab.multilora.slots import Slot, list_lora_matrices, read_lora_weights
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


RANKS: Final = [3, 24, 8, 1]


def test_trials_of_unlike_rank_share_a_product_and_equal_peft_alone(
    random_model: Callable[[str], Any], make_adapter: Callable[..., AdapterConfig]
) -> None:
    """As on a GPU: rows of memory laid out rank after rank; logits and gradients in 64 bits against PEFT's."""
    base = random_model("llama").double()
    ids_BT = torch.randint(2, 20, (len(RANKS), 6))
    slots, expected = [], []
    for place, rank in enumerate(RANKS):
        adapted: Any = attach_adapter(base, make_adapter("query", "mlp", rank=rank), HubModel(name="any"), place)
        for pair in read_lora_weights(adapted).values():
            for one in pair:
                one.normal_()
        logits_1TV = adapted(input_ids=ids_BT[place : place + 1]).logits
        logits_1TV.square().mean().backward()
        named = {name: weight.grad.clone() for name, weight in adapted.named_parameters() if weight.requires_grad}
        expected.append((logits_1TV.detach(), list(named.values())))
        slots.append(Slot(list_lora_matrices(adapted), read_lora_weights(adapted), place, True, by_rank=True))
        detach_adapter(adapted)
    with PackedAdapters(base, slots) as packed:
        assert [[slot.rank for slot in bucket.slots] for bucket in packed.buckets] == [[24, 8, 3], [1]]
        order = [slot.seed for slot in packed.slots]
        base.train()
        packed.begin_micro_batch([], [0] * len(RANKS))
        logits_BTV = base(input_ids=ids_BT[order]).logits
        logits_BTV.square().mean(dim=(1, 2)).sum().backward()
        for row, place in enumerate(order):
            logits_1TV, grads = expected[place]
            torch.testing.assert_close(logits_BTV[row : row + 1].detach(), logits_1TV, rtol=1e-12, atol=1e-12)
            grad_P = torch.cat([packed.slots[row].parameters[name].grad.flatten() for name in ("lora_A", "lora_B")])
            assert len(grad_P) == packed.slots[row].num_params  # an optimizer sees no padding
            wanted = torch.cat([one.flatten() for one in grads])
            torch.testing.assert_close(grad_P.sort().values, wanted.sort().values, rtol=1e-11, atol=1e-13)
        assert all(slot.row_P.count_nonzero() == slot.num_params for slot in packed.slots)
    for slot in slots:
        before = {name: (a.clone(), b.clone()) for name, (a, b) in slot.weights().items()}
        slot.park()
        assert len(slot.row_P) == slot.num_params
        for name, pair in slot.weights().items():
            assert all(map(torch.equal, pair, before[name]))
