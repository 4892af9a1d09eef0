"""The loss in chunks against all logits at once: the same loss and gradients, and never all logits in memory."""

from collections.abc import Callable
from typing import Any, Final

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM

from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.config.model import HubModel
from sweeplab.data.batches import Batch, collate_tokens
from sweeplab.data.images import ImageBatch
from sweeplab.data.packing import PackedRow
from sweeplab.multilora.batches import CohortBatch, _combine_rows
from sweeplab.multilora.dropout import Extent
from sweeplab.multilora.packed import PackedAdapters
from sweeplab.multilora.slots import Slot, list_lora_matrices, read_lora_weights
from sweeplab.training import chunked_loss as chunks
from sweeplab.training.module import (
    _compute_row_losses,
    compute_target_logits,
    compute_window_shares,
    sum_target_losses,
)
from tests.random_models import SIZES
from tests.training.conftest import examples
from tests.trials import Compose

V: Final = 128
ODD_V: Final = 131  # no other size of the model
ALL: Final = tuple(f"adapter.lora_{toggle}=true" for toggle in ("query", "value", "mlp", "head"))
SMALL: Final = 4 * V * 4 * 3  # three columns of four rows


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", SMALL)


def batch_of(count: int = 4, seed: int = 3) -> Batch:
    return collate_tokens(examples(count, seed=seed), 0, 0)


def at_once(model: nn.Module, batch: Batch) -> Tensor:
    logits_NV, targets_N = compute_target_logits(model, batch)
    return F.cross_entropy(logits_NV, targets_N, reduction="sum")


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def assert_same(model: nn.Module, batch: Batch) -> None:
    direct, chunked = at_once(model, batch), sum_target_losses(model, batch)
    torch.testing.assert_close(chunked, direct, rtol=1e-12, atol=0)
    expected, found = gradients(model, direct), gradients(model, chunked)
    assert expected.keys() == found.keys() != set()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-12 * float(gradient.abs().max()))


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
    assert _compute_row_losses(model, batch_of()) is not None
    assert_same(model, batch_of())


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("family", sorted(set(SIZES) - {"vit"}))
def test_loss_and_gradients_of_every_family(family: str) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES[family])).double().eval()
    batch = batch_of()
    assert _compute_row_losses(model, batch) is not None
    assert_same(model, batch)


@pytest.mark.usefixtures("small_chunks")
def test_logits_that_are_not_the_heads_alone_are_taken_at_once() -> None:
    model = GraniteForCausalLM(GraniteConfig(**SIZES["llama"], logits_scaling=3.0)).double().eval()
    assert _compute_row_losses(model, batch_of()) is None
    assert model.get_output_embeddings() in chunks._WHOLE_LOGITS
    assert_same(model, batch_of())


@pytest.mark.usefixtures("small_chunks")
def test_a_head_whose_adapter_drops_is_taken_at_once_in_training_only(tiny_llama: Any, compose_trial: Compose) -> None:
    adapter = compose_trial("quantization=none", "adapter.rank=3", "adapter.dropout=0.5", *ALL).adapter
    model = filled(attach_adapter(tiny_llama().requires_grad_(False), adapter, HubModel(name="any"), seed=1))
    assert _compute_row_losses(model, batch_of()) is None
    assert _compute_row_losses(model.eval(), batch_of()) is not None


def cohort_batch() -> CohortBatch:
    parts = [(examples(count, seed=count), 7) for count in (2, 1, 2)]  # the second one is filled up
    return _combine_rows([(rows, num_targets) for rows, num_targets in parts], parts[0][0][0], 0)


def packed_gradients(packed: PackedAdapters, shares_K: Tensor) -> list[Tensor]:
    packed.zero_gradients()
    shares_K.sum().backward()
    return [bucket.grads_KP.clone() for bucket in packed.buckets if bucket.grads_KP is not None]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_every_trial_of_a_cohort_has_its_own_loss_and_gradients(
    tiny_llama: Any, compose_trial: Compose, monkeypatch: pytest.MonkeyPatch, dropout: float
) -> None:
    base: Any = tiny_llama().requires_grad_(False)
    slots = []
    for seed, rank in ((0, 3), (1, 20), (2, 4)):
        chosen = ("quantization=none", f"adapter.rank={rank}", f"adapter.dropout={dropout}", *ALL)
        adapted = filled(attach_adapter(base, compose_trial(*chosen).adapter, HubModel(name="any"), seed))
        slots.append(Slot(list_lora_matrices(adapted), read_lora_weights(adapted), seed, as_vectors=True))
        detach_adapter(adapted)
    batch = cohort_batch()
    with PackedAdapters(base.train(), slots) as packed:
        packed.begin_micro_batch([Extent(share.num_rows, share.num_columns) for share in batch.shares], [5, 6, 7])
        direct_K = compute_window_shares(base, batch)
        expected = packed_gradients(packed, direct_K)
        monkeypatch.setattr(chunks, "_CHUNK_BYTES", SMALL)
        assert (_compute_row_losses(base, batch.rows) is None) == (dropout > 0)
        chunked_K = compute_window_shares(base, batch)
        found = packed_gradients(packed, chunked_K)
    torch.testing.assert_close(chunked_K, direct_K, rtol=1e-12, atol=0)
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


class LargestLogits(TorchDispatchMode):
    """Entries of the largest tensor over the vocabulary, apart from the head's own weights and views of them."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.apart = {weight.untyped_storage().data_ptr() for weight in head.parameters()}
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.shape[-1:] == (ODD_V,):
                if tensor.untyped_storage().data_ptr() in self.apart:
                    continue
                self.largest = max(self.largest, tensor.numel())
        return made


@pytest.mark.parametrize("again", [True, False], ids=["training", "held-out"])
def test_all_logits_never_stand_at_once(tiny_llama: Any, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    model, batch = tiny_llama(vocab_size=ODD_V).train(), batch_of(4)
    model.get_output_embeddings().requires_grad_(False)
    sizes: dict[str, int] = {}
    for name, num_bytes in (("at once", 1 << 25), ("chunked", 4 * ODD_V * 4 * 3)):
        monkeypatch.setattr(chunks, "_CHUNK_BYTES", num_bytes)
        with LargestLogits(model.get_output_embeddings()) as seen, torch.set_grad_enabled(again):
            loss = sum_target_losses(model, batch)
            if again:
                loss.backward()
        sizes[name] = seen.largest
    assert sizes == {"at once": batch.ids_BT.numel() * ODD_V, "chunked": 4 * 3 * ODD_V}


def test_images_and_small_vocabularies_are_taken_at_once(tiny_llama: Any) -> None:
    assert _compute_row_losses(tiny_llama(), batch_of()) is None
    images = ImageBatch(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), 2, 2)
    assert _compute_row_losses(nn.Identity(), images) is None


def test_columns_by_hand(small_chunks: Callable[..., None]) -> None:
    assert chunks._count_columns_per_chunk(V, 4, 3) == 3
    assert chunks._count_columns_per_chunk(V, 4, 4) == 3
    assert chunks._count_columns_per_chunk(V, 2, 100) == 6
    assert chunks._count_columns_per_chunk(1 << 20, 4, 100) == 1
