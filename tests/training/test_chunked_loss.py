"""The loss in chunks against all logits at once: the same loss and gradients, and never all logits in memory."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.config.model import HubModel
from sweeplab.data.batches import Batch, collate_tokens
from sweeplab.data.packing import PackedRow
from sweeplab.logits import states
from sweeplab.logits.states import read_states
from sweeplab.multilora.batches import CohortBatch, _combine_rows
from sweeplab.multilora.dropout import Extent
from sweeplab.multilora.packed import PackedAdapters
from sweeplab.multilora.slots import Slot, list_lora_matrices, read_lora_weights
from sweeplab.training.module import (
    _build_inputs,
    compute_window_shares,
    sum_row_losses,
    sum_target_losses,
)
from tests.logits.largest import LargestLogits
from tests.random_models import SIZES
from tests.training.conftest import examples
from tests.trials import Compose

V: Final = 128
HIDDEN: Final = 32  # of `small_llama`
ODD_V: Final = 131  # no other size of the model
ALL: Final = tuple(f"adapter.lora_{toggle}=true" for toggle in ("query", "value", "mlp", "head"))
SMALL: Final = 4 * V * 3  # three positions


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "_CHUNK_BYTES", SMALL)


def batch_of(count: int = 4, seed: int = 3) -> Batch:
    return collate_tokens(examples(count, seed=seed), 0, 0)


def at_once(model: nn.Module, batch: Batch) -> Tensor:
    """By transformers' own logits of all positions, and autograd."""
    logits_BTV = model(**_build_inputs(batch)).logits[:, -batch.ids_BT.shape[1] : -1]
    return F.cross_entropy(logits_BTV.flatten(0, 1), batch.labels_BT[:, 1:].flatten(), reduction="sum")


def is_read(model: nn.Module) -> bool:
    return read_states(model, _build_inputs(batch_of())) is not None


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_same(model: nn.Module, batch: Batch) -> None:
    direct, chunked = at_once(model, batch), sum_target_losses(model, batch)
    torch.testing.assert_close(chunked, direct, rtol=1e-12, atol=0)
    expected, found = gradients(model, direct), gradients(model, chunked)
    assert expected.keys() == found.keys() != set()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())  # some are zero but for rounding
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-14 * largest, msg=name)


def filled(model: nn.Module) -> nn.Module:
    """B is not zero any more, so that gradients reach A too."""
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return model.double().train()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "overrides",
    [
        ("adapter=lora",),
        ("adapter=lora", *ALL),
        ("adapter=dora", *ALL),
        ("adapter=prompt",),
        ("adapter=prefix",),
        ("adapter=none",),
        ("adapter=lora", "adapter.dropout=0.5", "adapter.lora_query=true"),
    ],
    ids=lambda one: " ".join(one[:2]),
)
def test_loss_and_gradients_of_every_method(
    tiny_llama: Any, compose_trial: Compose, overrides: tuple[str, ...]
) -> None:
    base = tiny_llama().requires_grad_(False)
    rank = () if overrides[0].partition("=")[2] in ("prompt", "prefix", "none") else ("adapter.rank=3",)
    adapter = compose_trial("quantization=none", *rank, *overrides).adapter
    model = filled(attach_adapter(base, adapter, HubModel(name="any"), seed=1))
    if adapter.has_dropout():
        model.eval()  # the two forwards would draw differently
    assert is_read(model)
    assert_same(model, batch_of())


CHANGED: Final[dict[str, dict[str, Any]]] = {  # families that change the logits, or the states before the head
    "gemma2": {**SIZES["qwen3"], "final_logit_softcapping": 0.3},
    "gemma3_text": {**SIZES["qwen3"], "final_logit_softcapping": 0.2},
    "cohere": {**SIZES["llama"], "logit_scale": 0.0625},
    "granite": {**SIZES["llama"], "logits_scaling": 3.0},
    "minicpm3": {**SIZES["llama"], "num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8},
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("family", sorted((set(SIZES) - {"vit"}) | set(CHANGED)))
def test_loss_and_gradients_of_every_family(family: str) -> None:
    """All weights train."""
    sizes = CHANGED.get(family, SIZES.get(family, {}))
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).double().eval()
    assert is_read(model)
    assert_same(model, batch_of())


@pytest.mark.usefixtures("small_chunks")
def test_sums_by_row(tiny_llama: Any) -> None:
    model, batch = tiny_llama().eval(), batch_of()
    sums_B, counts_B = sum_row_losses(model, batch)
    for row in range(4):
        alone = Batch(batch.ids_BT[row][None], batch.mask_BT[row][None], batch.labels_BT[row][None], 0, 0)
        assert sums_B[row].item() == pytest.approx(at_once(model, alone).item(), rel=1e-12)
        assert counts_B[row] == (alone.labels_BT[:, 1:] >= 0).sum()


def test_without_a_target_every_trained_weight_has_a_gradient_of_zeros(tiny_llama: Any) -> None:
    """Devices add up the gradients that there are, so those must be the same ones on each."""
    model, nothing = tiny_llama(), batch_of()._replace(labels_BT=torch.full_like(batch_of().labels_BT, -100))
    for _ in range(2):
        found = gradients(model, sum_target_losses(model, nothing))
    assert found.keys() == {name for name, _ in model.named_parameters()}
    assert not any(bool(one.any()) for one in found.values())


class Mixing(LlamaForCausalLM):
    """Its logits depend on those of other positions."""

    def forward(self, **inputs: Any) -> Any:
        output = super().forward(**inputs)
        output.logits = output.logits - output.logits.mean(dim=1, keepdim=True)
        return output


@pytest.mark.usefixtures("small_chunks")
def test_logits_that_are_not_made_position_by_position_are_taken_at_once() -> None:
    model: Any = Mixing(LlamaConfig(**SIZES["llama"]))
    model.double().eval()
    assert not is_read(model)
    assert not is_read(model)  # not tried again
    assert_same(model, batch_of())
    assert sum_row_losses(model, batch_of())[0].sum().item() == pytest.approx(at_once(model, batch_of()).item())


class DropsByValue(nn.Module):
    """Drops the same in any order of positions."""

    def forward(self, x: Tensor) -> Tensor:
        return x * ((x.detach() * 1000) % 1 > 0.5)


@pytest.mark.usefixtures("small_chunks")
def test_a_head_whose_adapter_drops(tiny_llama: Any, compose_trial: Compose) -> None:
    adapter = compose_trial("quantization=none", "adapter.rank=3", "adapter.dropout=0.5", *ALL).adapter
    model = filled(attach_adapter(tiny_llama().requires_grad_(False), adapter, HubModel(name="any"), seed=1))
    modules: Any = model.modules()
    for module in modules:
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = DropsByValue()
    assert_same(model, batch_of())


def cohort_batch() -> CohortBatch:
    parts = [(examples(count, seed=count), 7) for count in (2, 1, 2)]  # the second one is filled up
    return _combine_rows([(rows, num_targets) for rows, num_targets in parts], parts[0][0][0], 0)


def packed_gradients(packed: PackedAdapters, shares_K: Tensor) -> list[Tensor]:
    packed.zero_gradients()
    (shares_K * torch.tensor([1.0, 2.0, 0.5])).sum().backward()
    return [bucket.grads_KP.clone() for bucket in packed.buckets if bucket.grads_KP is not None]


def shares_at_once(base: nn.Module, batch: CohortBatch) -> Tensor:
    """By the logits of all positions, for which the hooks add the trials' updates, and autograd."""
    rows: Any = batch.rows
    logits_BTV = base(**_build_inputs(rows)).logits[:, :-1]
    losses = F.cross_entropy(logits_BTV.flatten(0, 1), rows.labels_BT[:, 1:].flatten(), reduction="none")
    return losses.view(len(batch.shares), -1).sum(dim=1) / 7


def slots_of(base: Any, compose_trial: Compose, heads: Sequence[bool], *chosen: str) -> list[Slot]:
    slots = []
    for seed, (rank, head) in enumerate(zip((3, 20, 4), heads, strict=False)):
        overrides = ("quantization=none", f"adapter.rank={rank}", *ALL, f"adapter.lora_head={head}", *chosen)
        adapted = filled(attach_adapter(base, compose_trial(*overrides).adapter, HubModel(name="any"), seed))
        slots.append(Slot(list_lora_matrices(adapted), read_lora_weights(adapted), seed, as_vectors=True))
        detach_adapter(adapted)
    return slots


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("heads", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_every_trial_of_a_cohort_has_its_own_loss_and_gradients(
    tiny_llama: Any, compose_trial: Compose, dropout: float, heads: tuple[bool, ...]
) -> None:
    base: Any = tiny_llama().requires_grad_(False)
    slots, batch = slots_of(base, compose_trial, heads, f"adapter.dropout={dropout}"), cohort_batch()
    with PackedAdapters(base.train(), slots) as packed:
        for _ in range(2):  # the first pass tries whether logits are made position by position
            packed.begin_micro_batch([Extent(share.num_rows, share.num_columns) for share in batch.shares], [5, 6, 7])
            direct_K = shares_at_once(base, batch)
            expected = packed_gradients(packed, direct_K)
            found_K = compute_window_shares(base, batch)
            found = packed_gradients(packed, found_K)
    torch.testing.assert_close(found_K, direct_K, rtol=1e-12, atol=0)
    for one, other in zip(found, expected, strict=True):
        assert bool(other.any())
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12 * float(other.abs().max()))


@pytest.mark.usefixtures("small_chunks")
def test_packed_rows_and_rows_without_a_target(tiny_llama: Any) -> None:
    model = tiny_llama().train()
    rows = [PackedRow(tuple(examples(3, seed=seed))) for seed in (1, 2)]
    joined = _combine_rows([(rows, 5)], rows[0], 0).rows
    assert isinstance(joined, Batch)
    assert_same(model, joined)
    model.zero_grad()
    nothing = batch_of()._replace(labels_BT=torch.full_like(batch_of().labels_BT, -100))
    loss = sum_target_losses(model, nothing)
    loss.backward()
    assert loss.item() == 0
    assert not any(
        weight.grad is not None and weight.grad.any() for weight in model.parameters() if weight.grad is None
    )


@pytest.mark.parametrize("trains", [True, False], ids=["training", "held-out"])
def test_all_logits_never_stand_at_once(tiny_llama: Any, monkeypatch: pytest.MonkeyPatch, trains: bool) -> None:
    model, batch = tiny_llama(vocab_size=ODD_V).train(), batch_of(4)
    model.get_output_embeddings().requires_grad_(False)
    num_targets = int((batch.labels_BT[:, 1:] >= 0).sum())
    for num_bytes, most in ((1 << 25, num_targets), (4 * ODD_V * 3, 3), (1, 2 * 4)):  # 2 columns of 4 rows are tried
        monkeypatch.setattr(states, "_CHUNK_BYTES", num_bytes)
        with LargestLogits(model.get_output_embeddings(), ODD_V) as seen:
            if trains:
                sum_target_losses(model, batch).backward()
            else:
                sum_row_losses(model, batch)
        assert seen.largest <= max(most, 2 * 4) * ODD_V
    assert num_targets > 2 * 4


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-7), (torch.bfloat16, 2**-8)])
def test_a_loss_is_the_same_in_chunks_of_any_size(
    tiny_llama: Any, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, bound: float
) -> None:
    """Mean loss and gradients, within one rounding of a logit: a library may sum products of other rows in another
    order. Measured: losses are equal, gradients within 1.8e-7 of the largest in 32 bits, equal in 16."""
    batch, found = batch_of(6), []
    model = tiny_llama(vocab_size=ODD_V).to(dtype).train()
    for num_positions in (1, 3, 16, 1 << 20):
        monkeypatch.setattr(states, "_CHUNK_BYTES", 4 * ODD_V * num_positions)
        loss = sum_target_losses(model, batch) / (batch.labels_BT[:, 1:] >= 0).sum()
        (grad,) = torch.autograd.grad(loss, [model.get_input_embeddings().weight])
        found.append((loss.detach(), grad))
    for loss, grad in found[1:]:
        assert abs(loss - found[0][0]) <= bound * found[0][0]
        assert (grad - found[0][1]).abs().max() <= 4 * bound * grad.abs().max()


def head_flops(run: Callable[[int], None], vocab_size: int) -> int:
    """Multiplications and additions that the head takes: those that grow with the vocabulary."""
    counts: list[int] = []
    for size in (vocab_size, 2 * vocab_size):
        run(size)  # whether logits are made position by position is tried once
        with FlopCounterMode(display=False) as counter:
            run(size)
        counts.append(counter.get_total_flops())
    return counts[1] - counts[0]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("head", [False, True], ids=["frozen", "adapted"])
def test_the_head_costs_two_products_of_the_targets(tiny_llama: Any, compose_trial: Compose, head: bool) -> None:
    """Forward and gradient of the hidden states; an adapter of rank R adds three products with its B."""
    made = compose_trial("quantization=none", "adapter.rank=3", *ALL, f"adapter.lora_head={head}").adapter
    models = {
        size: attach_adapter(tiny_llama(vocab_size=size).requires_grad_(False), made, HubModel(name="any"), seed=1)
        for size in (V, 2 * V)
    }
    batch = batch_of()
    num_targets = int((batch.labels_BT[:, 1:] >= 0).sum())
    needed = 2 * num_targets * V * (2 * HIDDEN + (3 * 3 if head else 0))
    found = head_flops(lambda size: sum_target_losses(models[size].train(), batch).backward(), V)
    assert needed <= found <= 1.05 * needed


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("heads", [(True, True), (False, False)], ids=["adapted", "frozen"])
def test_the_head_of_a_cohort_costs_two_products_of_the_targets(
    tiny_llama: Any, compose_trial: Compose, heads: tuple[bool, ...]
) -> None:
    """The second trial has a row less. The counter sees none of the products with B, which are done in place."""
    parts = [(examples(count, seed=count), 7) for count in (2, 1)]
    batch = _combine_rows([(rows, num_targets) for rows, num_targets in parts], parts[0][0][0], 0)
    bases = {size: tiny_llama(vocab_size=size).requires_grad_(False) for size in (V, 2 * V)}
    slots = {size: slots_of(base, compose_trial, heads) for size, base in bases.items()}

    def run(size: int) -> None:
        with PackedAdapters(bases[size].train(), slots[size]):
            compute_window_shares(bases[size], batch).sum().backward()

    counts = [share.num_targets for share in batch.shares]
    needed = 2 * V * sum(counts) * 2 * HIDDEN
    assert counts[0] != counts[1]
    assert needed <= head_flops(run, V) <= 1.05 * needed


def test_a_second_backward_is_refused(tiny_llama: Any) -> None:
    """The gradients are multiplied in place."""
    loss = sum_target_losses(tiny_llama().train(), batch_of())
    loss.backward(retain_graph=True)
    with pytest.raises(AttributeError):
        loss.backward()
