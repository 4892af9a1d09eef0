"""Packed rows against the same examples one by one: partition, loss, gradients and blindness, in 64 bits."""

from collections import Counter
from itertools import islice
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from sweeplab.adapters.attach import attach_adapter
from sweeplab.config.adapter import AdapterConfig
from sweeplab.data.batches import Batch, Windows, _collate_packed, collate_tokens
from sweeplab.data.packing import PackedRow, pack_examples
from sweeplab.data.tokens import IGNORED, Tokens
from sweeplab.models.base import read_architecture
from sweeplab.records.record import Status
from sweeplab.runtime.errors import ConfigError
from sweeplab.training.module import build_attention_inputs, sum_target_losses
from sweeplab.trial.resources import Resources
from tests.configs import PLAIN
from tests.random_models import architectures  # noqa: F401  # architectures is a fixture
from tests.trials import run_alone

PAD = 0
LENGTHS = st.lists(st.integers(1, 16), min_size=1, max_size=60)
FAMILIES = ["llama", "qwen3", "phi", "gpt2", "opt", "gpt_neox", "mistral", "phi3"]
FUSED = {"gpt2", "gpt_neox", "phi3"}


def examples(lengths: list[int], seed: int = 0) -> list[Tokens]:
    """Random tokens, of which the first third is prompt."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        ids = torch.randint(2, 128, (length,), generator=generator).tolist()
        made.append(Tokens(ids, [IGNORED] * (length // 3) + ids[length // 3 :]))
    return made


def first_fit(lengths: list[int], length: int) -> list[list[int]]:
    """First-fit-decreasing as one would write it down: look at every row in turn."""
    rows: list[list[int]] = []
    for one in sorted(lengths, reverse=True):
        fitting = [row for row in rows if sum(row) + one <= length]
        if fitting:
            fitting[0].append(one)
        else:
            rows.append([one])
    return rows


@given(LENGTHS)
def test_packing_is_first_fit_decreasing_and_loses_nothing(lengths: list[int]) -> None:
    data = examples(lengths)
    rows = pack_examples(data, 16)
    assert [[tokens.num_tokens for tokens in row.sequences] for row in rows] == first_fit(lengths, 16)
    assert Counter(str(one) for row in rows for one in row.sequences) == Counter(map(str, data))
    assert sum(row.num_targets for row in rows) == sum(tokens.num_targets for tokens in data)


def test_an_example_that_does_not_fit_is_the_callers_error() -> None:
    with pytest.raises(AssertionError):
        pack_examples(examples([17]), 16)


def test_a_packed_row_by_hand() -> None:
    rows = [PackedRow((Tokens([5, 6, 7], [5, 6, 7]), Tokens([8, 9], [IGNORED, 9]))), PackedRow((Tokens([4], [4]),))]
    batch = _collate_packed(rows, PAD, num_window_targets=7)
    assert batch.ids_BT.tolist() == [[5, 6, 7, 8, 9], [4, PAD, PAD, PAD, PAD]]
    assert batch.labels_BT.tolist() == [[IGNORED, 6, 7, IGNORED, 9], [IGNORED] * 5]
    assert batch.mask_BT.tolist() == [[1, 1, 1, 2, 2], [1, 0, 0, 0, 0]]
    assert batch.positions_BT is not None
    assert batch.positions_BT.tolist() == [[0, 1, 2, 0, 1], [0, 0, 0, 0, 0]]
    assert (batch.num_tokens, batch.num_window_targets) == (6, 7)
    mask = build_attention_inputs(batch)["attention_mask"]
    assert mask.dtype is torch.bool
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert mask[1, 0].any(-1).all()  # a row of nothing would be 0 / 0


@pytest.mark.parametrize(("micro", "accumulation"), [(1, 1), (2, 3), (3, 2)])
def test_every_example_comes_once_per_epoch_and_windows_count_exactly(micro: int, accumulation: int) -> None:
    data = examples([1 + place * 7 % 13 for place in range(47)])
    rows = pack_examples(data, 16)
    windows = Windows(rows, micro, accumulation, seed=3)
    orders = []
    for epoch in range(2):
        batches, total = [], 0
        for window in islice(windows.iterate_from(epoch * windows.num_per_epoch), windows.num_per_epoch):
            made = [
                _collate_packed([rows[index] for index in one.indices], PAD, one.num_window_targets) for one in window
            ]
            counted = sum(int((batch.labels_BT[:, 1:] != IGNORED).sum()) for batch in made)
            assert [batch.num_window_targets for batch in made] == [counted] * len(window)
            batches += made
            total += sum(batch.num_tokens for batch in made)
        seen = [one for batch in batches for one in sequences_of(batch)]
        assert Counter(map(str, seen)) == Counter(str(tokens.ids.tolist()) for tokens in data)
        orders.append(seen)
        assert total == sum(tokens.num_tokens for tokens in data)
    assert orders[0] != orders[1]


def sequences_of(batch: Batch) -> list[list[int]]:
    return [
        ids[numbers == number].tolist()
        for ids, numbers in zip(batch.ids_BT, batch.mask_BT, strict=True)
        for number in range(1, int(numbers.max()) + 1)
    ]


class Packed(NamedTuple):
    model: nn.Module
    rows: list[PackedRow]
    batch: Batch
    data: list[Tokens]


@pytest.fixture
def packed(request: Any, architectures: Any) -> Packed:  # noqa: F811
    """A family's random model with a trained-looking adapter, in 64 bits, and nine examples in rows of 24."""
    family = request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base: PreTrainedModel = AutoModelForCausalLM.from_config(
            read_architecture(architectures[family]), attn_implementation="sdpa"
        ).eval()
    enabled = {"query", "key", "value", "mlp"} if family in FUSED else {"query", "value", "mlp"}
    model = attach_adapter(base.requires_grad_(False), lora(enabled), architectures[family], seed=0).double()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    data = examples([3, 9, 12, 2, 7, 24, 5, 11, 8])
    rows = pack_examples(data, 24)
    assert max(len(row.sequences) for row in rows) > 2
    return Packed(model, rows, _collate_packed(rows, PAD, 1), data)


def lora(enabled: set[str]) -> AdapterConfig:
    return PLAIN.replaced(rank=3, **{f"lora_{toggle}": True for toggle in enabled})


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    found = torch.autograd.grad(loss, list(weights.values()))
    return dict(zip(weights, found, strict=True))


@pytest.mark.parametrize("packed", FAMILIES, indirect=True)
def test_packed_loss_and_gradients_equal_those_of_each_example_alone(packed: Packed) -> None:
    model, _, batch, data = packed
    loss = sum_target_losses(model, batch)
    alone = torch.stack([sum_target_losses(model, collate_tokens([tokens], PAD, 1)) for tokens in data]).sum()
    torch.testing.assert_close(loss, alone, rtol=1e-12, atol=0)
    found, expected = gradients(model, loss), gradients(model, alone)
    assert all(gradient.abs().max() > 0 for gradient in expected.values())
    for name, gradient in expected.items():
        error = (found[name] - gradient).norm() / gradient.norm()
        assert error < 1e-12, f"{name}: {error}"


@pytest.mark.parametrize("packed", FAMILIES, indirect=True)
@torch.no_grad()
def test_a_sequence_does_not_see_the_others(packed: Packed) -> None:
    model, _, batch, _ = packed
    place = next(place for place in range(len(batch.mask_BT)) if batch.mask_BT[place].max() > 2)
    before = logits(model, batch)
    for number in range(1, int(batch.mask_BT[place].max()) + 1):
        changed = batch.ids_BT.clone()
        inside = batch.mask_BT[place] == number
        changed[place, inside] = 127 - changed[place, inside] + 2
        after = logits(model, batch._replace(ids_BT=changed))
        assert torch.equal(after[place, ~inside], before[place, ~inside])
        assert not torch.isclose(after[place, inside], before[place, inside]).all()


def logits(model: nn.Module, batch: Batch) -> Tensor:
    found: Tensor = model(input_ids=batch.ids_BT, **build_attention_inputs(batch)).logits
    return found


@pytest.mark.parametrize("packed", ["llama", "gpt2"], indirect=True)
def test_without_the_mask_it_would_be_seen(packed: Packed) -> None:
    """The test above could not fail on a model that looks at one token only."""
    model, _, batch, data = packed
    unmasked = batch._replace(mask_BT=(batch.mask_BT > 0).long(), positions_BT=None)
    alone = torch.stack([sum_target_losses(model, collate_tokens([tokens], PAD, 1)) for tokens in data]).sum()
    assert abs(sum_target_losses(model, unmasked) - alone) > 1e-5 * abs(alone)


@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_a_packed_trial_trains_on_the_same_tokens(make_spec: Any, resources: Resources, checkpointing: str) -> None:
    epoch = ("training.max_steps=null", "training.epochs=1", "quantization=none", "evaluation=none")
    settings_ = (*epoch, "training.max_length=64", f"training.gradient_checkpointing={checkpointing}")
    plain = run_alone(make_spec(0, *settings_), resources)
    packed_ = run_alone(make_spec(1, *settings_, "data.packing=true"), resources)
    assert (plain.reason, packed_.reason) == (None, None)
    assert packed_.num_train_tokens == plain.num_train_tokens
    assert packed_.step is not None
    assert plain.step == 10
    assert 2 <= packed_.step < plain.step
    assert (packed_.num_truncated, packed_.num_dropped) == (0, 0)


def test_packing_does_not_go_with_virtual_tokens(compose_trial: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.packing=true does not go with adapter=prefix: .*; choose data\.packi"
    ):
        compose_trial("adapter=prefix", "data.packing=true")


def test_packing_does_not_widen_a_window_of_attention(make_spec: Any, resources: Resources) -> None:
    spec = make_spec(0, "quantization=none", "evaluation=none", "data.packing=true", "training.max_length=64")
    base = resources.base_for(spec.config)
    base.model.config.sliding_window = 32
    record = run_alone(spec, resources)
    assert record.status is Status.REFUSED
    assert "attention window of 32 tokens, which is shorter than training.max_length=64; choose" in str(record.reason)


def test_a_window_that_is_longer_than_every_example_does_no_harm(make_spec: Any, resources: Resources) -> None:
    spec = make_spec(0, "quantization=none", "evaluation=none", "data.packing=true", "training.max_length=64")
    base = resources.base_for(spec.config)
    base.model.config.sliding_window = 40  # of the longest example
    record = run_alone(spec, resources)
    assert (record.status, record.reason) == ("finished", None)
