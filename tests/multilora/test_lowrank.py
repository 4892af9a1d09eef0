"""The low-rank update against its formula in 64 bits, and its rounding against PEFT's own layers in 16."""

from typing import Any, Final

import pytest
import torch
from torch import Tensor

from sweeplab.adapters.attach import attach_adapter
from sweeplab.config.model import EmbeddedModel
from sweeplab.models.base import load_base
from sweeplab.multilora.inputs import SharedInput
from sweeplab.multilora.lowrank import DropoutMask, LowRankUpdate, Update, _multiply, hold_scaling
from sweeplab.multilora.slots import _iterate_lora_layers
from tests.configs import quantize

M, N, I, O = 5, 6, 7, 4  # noqa: E741
SCALINGS: Final = {0: 0.5, 1: 2.0, 3: 3.0, 4: 1.5}  # of each trial that has an update; trial 2 has none


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def add_low_rank(x_MNI: Tensor, result_MNO: Tensor, anchor: Tensor, *settings: Any) -> Tensor:
    shared = SharedInput(len(x_MNI))
    out: Tensor = LowRankUpdate.apply(  # type: ignore[no-untyped-call]
        shared.branch(x_MNI), result_MNO, anchor, shared, *settings
    )
    return out


class Case:
    """Two updates of two trials each, of ranks 3 and 2, the second with dropout, and the same as plain tensors."""

    def __init__(self) -> None:
        self.x_MNI, self.result_MNO = draw(M, N, I), draw(M, N, O)
        factor_K11 = torch.tensor([1 / 0.6, 2.0], dtype=torch.float64)[:, None, None]
        self.keep = DropoutMask(torch.rand(2, N, I) > 0.4, factor_K11)
        self.keep_KNI = self.keep.mask_KNI.double() * factor_K11
        self.updates = [self.update(0, 3), self.update(3, 2)]
        self.anchor = torch.nn.Parameter(draw(0))

    def update(self, first: int, rank: int) -> Update:
        a, b = draw(2, rank, I), draw(2, O, rank)
        scaling = torch.tensor([SCALINGS[first], SCALINGS[first + 1]], dtype=torch.float64)[:, None, None]
        return Update(first, a, b, torch.zeros_like(a), torch.zeros_like(b), scaling, torch.ones_like(scaling))

    def apply(self, x_MNI: Tensor, result_MNO: Tensor) -> Tensor:
        return add_low_rank(x_MNI, result_MNO, self.anchor, self.updates, [None, self.keep])

    def plain(self, x_MNI: Tensor, result_MNO: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """One trial after another, with A and B of each as leaves."""
        rows, leaves = list(result_MNO), []
        for update, keep in zip(self.updates, (torch.ones(2, N, I).double(), self.keep_KNI), strict=True):
            for place in range(2):
                a, b = (w[place].clone().requires_grad_() for w in (update.a_KRI, update.b_KOR))
                trial = update.first + place
                rows[trial] = rows[trial] + SCALINGS[trial] * ((keep[place] * x_MNI[trial]) @ a.T @ b.T)
                leaves.append((a, b))
        return torch.stack(rows), leaves


@pytest.mark.parametrize("x_requires_grad", [True, False])
def test_result_and_gradients_are_those_of_the_formula(x_requires_grad: bool) -> None:
    case, times = Case(), 3
    upstream = draw(M, N, O)
    inputs = [(case.x_MNI.clone().requires_grad_(x_requires_grad), case.result_MNO.clone()) for _ in range(2)]
    for _, result in inputs:
        result.requires_grad_(x_requires_grad)
    expected, leaves = case.plain(*inputs[1])
    (expected * upstream).sum().backward()
    for _ in range(times):  # gradients are added to what is there
        out = case.apply(*inputs[0])
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
        (out * upstream).sum().backward()
    found = [
        pair
        for one in case.updates
        if one.grad_a_KRI is not None and one.grad_b_KOR is not None
        for pair in zip(one.grad_a_KRI, one.grad_b_KOR, strict=True)
    ]
    for mine, pair in zip(found, leaves, strict=True):
        for grad, leaf in zip(mine, pair, strict=True):
            assert leaf.grad is not None
            torch.testing.assert_close(grad, times * leaf.grad, rtol=0, atol=1e-11)
    if x_requires_grad:
        for mine_in, plain_in in zip(inputs[0], inputs[1], strict=True):
            assert mine_in.grad is not None
            assert plain_in.grad is not None
            torch.testing.assert_close(mine_in.grad, times * plain_in.grad, rtol=0, atol=1e-11)


def test_a_trial_without_an_update_and_the_given_result_stay_bit_equal() -> None:
    case = Case()
    before = case.result_MNO.clone()
    out = case.apply(case.x_MNI, case.result_MNO)
    assert torch.equal(out[2], before[2])
    assert torch.equal(case.result_MNO, before)
    assert not torch.equal(out[1], before[1])


@pytest.mark.parametrize("scheme", ["none", "nf4"])
def test_it_rounds_once(scheme: str, compose_trial: Any) -> None:
    """A base in bfloat16, an adapter in 32 bits: the exact sum, rounded. PEFT does so beside a plain matrix; beside a
    quantized one it rounds twice, and another number comes out in more than one of fifty."""
    model = EmbeddedModel(name="tiny_base")
    base = load_base(model, quantize(scheme, False), torch.bfloat16, torch.device("cpu"))
    config = compose_trial(f"quantization={scheme}", "adapter.rank=8", "adapter.alpha_ratio=2", "adapter.dropout=0")
    adapted = attach_adapter(base.model, config.adapter, config.model, 0)
    layer: Any = next(layer for _, layer, _ in _iterate_lora_layers(adapted))
    a_RI, b_OR = layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data
    assert (a_RI.dtype, layer.scaling["default"]) == (torch.float32, 2.0)
    b_OR.normal_(std=0.1)
    x_MNI = torch.randn(1, 512, a_RI.shape[1]).bfloat16()
    update = Update(0, a_RI[None], b_OR[None], None, None, 2.0, torch.ones(1, 1, 1))
    with torch.no_grad():
        of_peft, result = layer(x_MNI), layer.base_layer(x_MNI)
        mine = add_low_rank(x_MNI, result, torch.empty(0), [update], [None])
        exact = result.double() + 2 * (x_MNI.double() @ a_RI.double().T @ b_OR.double().T)
    assert mine.dtype == of_peft.dtype == torch.bfloat16
    wrong, other = ((one != exact.bfloat16()).double().mean().item() for one in (mine, of_peft))
    assert wrong < 1e-3  # sums in 32 bits in another order, at a border
    assert other < 1e-3 if scheme == "none" else other > 0.02


@pytest.mark.parametrize("scaling", [2.0, 0.25, 3.0, 1 / 3])
def test_a_scaling_within_a_product_is_bit_equal_to_one_after_it(scaling: float) -> None:
    """Only a power of two goes there: trials of unlike scaling are multiplied afterwards, and alone are as together."""
    scalings_K11 = torch.tensor([scaling, scaling, 1.5])[:, None, None]
    together, alone = hold_scaling([scaling, scaling, 1.5], scalings_K11), hold_scaling([scaling], scalings_K11[:1])
    assert together is scalings_K11
    assert isinstance(alone, float) is (scaling in (2.0, 0.25))
    for n, i, r in ((6, 7, 3), (33, 1536, 24), (128, 96, 16)):
        x, a = torch.randn(3, n, i), torch.randn(3, i, r)
        assert torch.equal(_multiply(x, a, together)[:1], _multiply(x[:1], a[:1], alone))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_one_update_of_all_trials_is_bit_equal_to_one_for_each(dtype: torch.dtype) -> None:
    """Two ways to the same sums: in the place of the result, or beside it."""
    wide = torch.promote_types(dtype, torch.float32)
    x_MNI, result_MNO, upstream = (draw(2, N, size).to(dtype) for size in (I, O, O))
    a, b = draw(2, 3, I).to(wide), draw(2, O, 3).to(wide)
    scaling = torch.tensor([0.5, 3.0], dtype=wide)[:, None, None]
    together = Update(0, a, b, torch.zeros_like(a), torch.zeros_like(b), scaling, torch.ones_like(scaling))
    apart = together._replace(grad_a_KRI=torch.zeros_like(a), grad_b_KOR=torch.zeros_like(b))
    found = []
    for updates in ([together], apart.split()):
        x, result = x_MNI.clone().requires_grad_(), result_MNO.clone().requires_grad_()
        anchor = torch.nn.Parameter(a.new_empty(0))
        out = add_low_rank(x, result, anchor, updates, [None] * len(updates))
        out.backward(upstream)
        assert torch.equal(result.detach(), result_MNO)
        found.append([out.detach(), x.grad, result.grad])
    assert together.grad_a_KRI is not None
    assert apart.grad_a_KRI is not None
    pairs = [
        *zip(*found, strict=True),
        (together.grad_a_KRI, apart.grad_a_KRI),
        (together.grad_b_KOR, apart.grad_b_KOR),
    ]
    for one, other in pairs:
        assert one is not None
        assert torch.equal(one, other)
