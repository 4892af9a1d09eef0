"""Merging against the adapter beside its base, against explicit matrices, and against the plain architecture."""

import re
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sweeplab.adapters.attach import attach_adapter, save_adapter
from sweeplab.adapters.merging import (
    attach_combined,
    attach_trained,
    compute_probe_logits,
    find_largest_difference,
    merge_adapter,
)
from sweeplab.config.adapter import AdapterConfig
from sweeplab.config.model import HubModel, ModelConfig
from sweeplab.models.base import load_base, read_architecture
from sweeplab.models.quantization.layers import dequantize_layers
from sweeplab.models.recomputation import keep_less
from sweeplab.runtime.errors import ConfigError
from tests.architectures import build_tiny_model
from tests.configs import PLAIN, quantize
from tests.random_models import SIZES

CPU = torch.device("cpu")
TOGGLES = {"llama": ("query", "mlp"), "gpt2": ("query", "key", "value", "mlp"), "phi": ("value", "projection")}
SCHEMES: dict[str, tuple[Any, ...]] = {
    "nf4": ("nf4", True),
    "fp4": ("fp4", False),
    "int8": ("int8", False),
    "hqq3": ("hqq3", False),
    "mixed": ("nf4", True, 128, {"mlp": "hqq3"}),
}

Trained = Callable[..., PeftModel]


@pytest.fixture
def trained(random_model: Any, make_adapter: Any) -> Trained:
    """A family's random model in 64 bits with an adapter that moves its logits."""

    def make(family: str = "llama", seed: int = 0, *toggles: str, **changes: Any) -> PeftModel:
        adapter = make_adapter(*(toggles or TOGGLES[family])).replaced(**changes)
        model = attach_adapter(random_model(family), adapter, HubModel(name="any"), seed)
        assert isinstance(model, PeftModel)
        moved(model, seed)
        return model.double().eval()

    return make


def moved(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)


def saved(model: PeftModel, folder: Path) -> Path:
    save_adapter(model, folder)
    return folder


def classes(model: nn.Module) -> dict[str, type]:
    return {name: type(module) for name, module in model.named_modules()}


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items() if "lora_" not in name}


CHANGES: list[tuple[str, dict[str, Any]]] = [
    *((family, change) for family in TOGGLES for change in ({}, {"rslora": True}, {"dora": True})),
    ("llama", {"rank_pattern": {"up_proj": 2}}),
]


@pytest.mark.parametrize(("family", "changes"), CHANGES, ids=str)
def test_merged_equals_unmerged_and_has_no_extra_module(
    trained: Trained, random_model: Any, family: str, changes: dict[str, Any]
) -> None:
    model, plain = trained(family, **changes), random_model(family)
    expected = compute_probe_logits(model)
    assert find_largest_difference(expected, compute_probe_logits(plain.double())) > 0.01
    result = merge_adapter(model)
    assert find_largest_difference(compute_probe_logits(result), expected) < 1e-12 * expected.abs().max()
    assert classes(result) == classes(plain)
    assert set(result.state_dict()) == set(plain.state_dict())


def test_in_32_bits_merging_costs_rounding_only(trained: Trained) -> None:
    model = trained().float()
    expected = compute_probe_logits(model)
    assert find_largest_difference(compute_probe_logits(merge_adapter(model)), expected) < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("family", TOGGLES)
def test_unmerging_restores_the_same_weights(trained: Trained, family: str) -> None:
    model = trained(family)
    before, logits = weights(model), compute_probe_logits(model)
    model.merge_adapter()
    merged = weights(model)
    assert any(not torch.equal(merged[name], before[name]) for name in before)
    model.unmerge_adapter()
    for name, weight in weights(model).items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=1e-15)
    assert find_largest_difference(compute_probe_logits(model), logits) < 1e-12


@pytest.mark.parametrize("rslora", [False, True])
def test_a_layer_is_w_plus_scaled_b_a(trained: Trained, random_model: Any, rslora: bool) -> None:
    """W + (alpha / r) B A, or alpha / sqrt(r), entry by entry (Hu et al. 2021, 4.1; Kalajdzievski 2023)."""
    model, plain = trained(rslora=rslora), random_model("llama").double().state_dict()
    factors = {name: weight.detach().clone() for name, weight in model.named_parameters() if "lora_" in name}
    scaling = 8.0 / (4**0.5 if rslora else 4)
    result = merge_adapter(model).state_dict()
    num_adapted = 0
    for name, weight in result.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        expected = plain[name]
        if f"{stem}.lora_A.default.weight" in factors:
            num_adapted += 1
            b_OR, a_RI = factors[f"{stem}.lora_B.default.weight"], factors[f"{stem}.lora_A.default.weight"]
            expected = expected + scaling * torch.einsum("or,ri->oi", b_OR, a_RI)
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-14)
    assert num_adapted == 2 * 4


@pytest.fixture
def three(trained: Trained, tmp_path: Path) -> list[Path]:
    return [saved(trained("llama", seed), tmp_path / str(seed)) for seed in range(3)]


WEIGHTS = (0.5, 1.5, -0.25)


def delta(folder: Path) -> dict[str, Tensor]:
    """(alpha / r) B A of every matrix, from the files, in 64 bits."""
    from safetensors.torch import load_file

    state = load_file(folder / "adapter_model.safetensors")
    stems = {name.partition(".lora_A")[0] for name in state if ".lora_A" in name}
    return {
        stem: 2.0 * state[f"{stem}.lora_B.weight"].double() @ state[f"{stem}.lora_A.weight"].double() for stem in stems
    }


def combined_weights(base: PreTrainedModel, folders: list[Path], parts: list[float], how: str) -> dict[str, Tensor]:
    model = attach_combined(base, folders, parts, how)
    assert list(model.peft_config) == ["default"]
    return merge_adapter(model.double()).state_dict()


@pytest.mark.parametrize("rslora", [False, True])
def test_cat_is_the_weighted_sum_in_any_order(
    trained: Trained, random_model: Any, tmp_path: Path, rslora: bool
) -> None:
    folders = [saved(trained("llama", seed, rslora=rslora), tmp_path / str(seed)) for seed in range(3)]
    scale = 2.0 if rslora else 1.0  # 8 / sqrt(4) over 8 / 4
    deltas, plain = [delta(folder) for folder in folders], random_model("llama").double().state_dict()
    for order in permutations(range(3)):
        found = combined_weights(
            random_model("llama"), [folders[place] for place in order], [WEIGHTS[place] for place in order], "cat"
        )
        for name, weight in found.items():
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            summed = [w * scale * one[stem] for w, one in zip(WEIGHTS, deltas, strict=True) if stem in one]
            torch.testing.assert_close(weight, plain[name] + sum(summed), rtol=0, atol=2e-7)  # adapters are in 32 bits


@pytest.mark.parametrize("how", ["linear", "svd", "ties"])
def test_any_order_gives_the_same(three: list[Path], random_model: Any, how: str) -> None:
    found = [
        combined_weights(random_model("llama"), [three[k] for k in order], [WEIGHTS[k] for k in order], how)
        for order in permutations(range(3))
    ]
    plain = random_model("llama").double().state_dict()
    assert any(not torch.equal(found[0][name], plain[name]) for name in plain)
    for other in found[1:]:
        for name, weight in other.items():
            torch.testing.assert_close(weight, found[0][name], rtol=0, atol=1e-6)


def test_svd_is_the_best_of_its_rank(three: list[Path], random_model: Any) -> None:
    """Eckart and Young 1936: the error is the norm of the singular values that are left out."""
    found, plain = (
        combined_weights(random_model("llama"), three, list(WEIGHTS), "svd"),
        random_model("llama").state_dict(),
    )
    deltas = [delta(folder) for folder in three]
    for stem in deltas[0]:
        exact = sum(w * one[stem] for w, one in zip(WEIGHTS, deltas, strict=True))
        assert isinstance(exact, Tensor)
        name = f"{stem.removeprefix('base_model.model.')}.weight"
        error = (found[name] - plain[name] - exact).norm()
        torch.testing.assert_close(error, torch.linalg.svdvals(exact)[4:].norm(), rtol=1e-5, atol=0)


def test_linear_refuses_unequal_ranks_in_one_line(trained: Trained, random_model: Any, tmp_path: Path) -> None:
    folders = [saved(trained("llama", rank, rank=rank), tmp_path / str(rank)) for rank in (2, 3)]
    with pytest.raises(ConfigError, match=r"export\.combination=linear fails: .* same r value .*; try cat$"):
        attach_combined(random_model("llama"), folders, [0.5, 0.5], "linear")


def test_adapters_of_experts_in_one_tensor_are_not_combined(tmp_path: Path) -> None:
    """PEFT orders the rows of A by expert, and puts those of a second adapter after all of them."""
    model = HubModel(name="mixtral", random_init=True, architecture={"model_type": "mixtral"})
    adapter = PLAIN.replaced(rank=2, lora_mlp=True, rank_pattern={r"experts\.down_proj": 3})
    folders = []
    for seed in range(2):
        adapted = attach_adapter(build_tiny_model("mixtral"), adapter, model, seed)
        folders.append(tmp_path / str(seed))
        save_adapter(adapted, folders[-1])
        ranks = {len(weight) for name, weight in adapted.named_parameters() if "lora_A" in name}
        assert ranks == {4 * 2, 4 * 3}  # of four experts
    with pytest.raises(ConfigError, match=r"0 adapts experts in one tensor.*; export one trial only$"):
        attach_combined(build_tiny_model("mixtral"), folders, [0.5, 0.5], "cat")


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_folder_that_cannot_be_loaded_is_named(three: list[Path], random_model: Any, broken: int) -> None:
    (three[broken] / "adapter_model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(
        ConfigError, match=rf"^{re.escape(str(three[broken]))} holds no adapter: .*; run the trial again$"
    ):
        attach_combined(random_model("llama"), three, list(WEIGHTS), "cat")


def test_hot_swap_gives_each_its_own_logits(three: list[Path], random_model: Any, make_adapter: Any) -> None:
    adapter = make_adapter(*TOGGLES["llama"])
    alone = [
        compute_probe_logits(attach_trained(random_model("llama"), adapter, HubModel(name="any"), 9, one))
        for one in three[:2]
    ]
    assert find_largest_difference(*alone) > 0.01
    model = PeftModel.from_pretrained(random_model("llama"), str(three[0]), adapter_name="a")
    model.load_adapter(str(three[1]), adapter_name="b")
    for name, expected in (("a", alone[0]), ("b", alone[1]), ("a", alone[0])):
        model.set_adapter(name)
        assert torch.equal(compute_probe_logits(model), expected)


def test_a_trained_adapter_comes_back_whatever_the_seed(
    trained: Trained, random_model: Any, make_adapter: Any, tmp_path: Path
) -> None:
    model = trained().float()
    folder = saved(model, tmp_path / "a")
    again = attach_trained(random_model("llama"), make_adapter(*TOGGLES["llama"]), HubModel(name="any"), 7, folder)
    assert torch.equal(compute_probe_logits(again), compute_probe_logits(model))


@pytest.mark.parametrize("change", ["rank", "toggles"])
def test_weights_of_another_trial_are_refused(
    three: list[Path], random_model: Any, make_adapter: Any, change: str
) -> None:
    adapter = make_adapter("query", "mlp", rank=5) if change == "rank" else make_adapter("query")
    with pytest.raises(ConfigError, match=r"0 holds (no adapter of this trial: |weights that the trial has not: )"):
        attach_trained(random_model("llama"), adapter, HubModel(name="any"), 0, three[0])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_dequantized_base_is_the_plain_architecture(
    architectures: dict[str, ModelConfig], random_model: Any, family: str, scheme: str
) -> None:
    quantization = quantize(*SCHEMES[scheme])
    model = load_base(architectures[family], quantization, torch.float32, CPU).model
    expected, plain = compute_probe_logits(model), random_model(family)
    dequantize_layers(model)
    keep_less(plain)  # as any base that is loaded
    assert classes(model) == classes(plain)
    assert {name: weight.shape for name, weight in model.state_dict().items()} == {
        name: weight.shape for name, weight in plain.state_dict().items()
    }
    assert not hasattr(model.config, "quantization_config")
    # int8 rounds the inputs of its products too
    most = 0.05 if "int8" in scheme else 2e-6
    assert find_largest_difference(compute_probe_logits(model), expected) < most * expected.abs().max()
    assert any(isinstance(module, Conv1D) for module in model.modules()) == (family == "gpt2")


@pytest.mark.parametrize("scheme", ["nf4", "hqq3", "mixed"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_merged_dequantized_base_survives_the_disk(
    architectures: dict[str, ModelConfig], make_adapter: Any, tmp_path: Path, family: str, scheme: str
) -> None:
    def base() -> PreTrainedModel:
        return load_base(architectures[family], quantize(*SCHEMES[scheme]), torch.float32, CPU).model

    adapter: AdapterConfig = make_adapter("query", "key", "value", "mlp")
    first = attach_adapter(base(), adapter, architectures[family], 0)
    assert isinstance(first, PeftModel)
    moved(first, 0)
    expected, folder = compute_probe_logits(first), saved(first, tmp_path / "adapter")
    other = base()
    dequantize_layers(other)
    merge_adapter(attach_trained(other, adapter, architectures[family], 0, folder)).save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert find_largest_difference(compute_probe_logits(again), expected) < 1e-5 * expected.abs().max()


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings")
def test_a_tied_head_is_untied_before_its_adapter_is_merged(make_adapter: Any, tmp_path: Path) -> None:
    tied = HubModel(
        name="tied",
        random_init=True,
        architecture={"model_type": "llama", **SIZES["llama"], "tie_word_embeddings": True},
    )
    torch.manual_seed(0)
    base: PreTrainedModel = AutoModelForCausalLM.from_config(read_architecture(tied)).double()
    embedding = base.get_input_embeddings()
    assert base.get_output_embeddings().weight is embedding.weight
    before = embedding.weight.detach().clone()
    model = attach_adapter(base, make_adapter("query", "head"), tied, 0).double()
    assert isinstance(model, PeftModel)
    moved(model.double(), 0)
    model = model.double()
    expected = compute_probe_logits(model)
    result = merge_adapter(model)
    assert torch.equal(result.state_dict()["model.embed_tokens.weight"], before)
    assert find_largest_difference(compute_probe_logits(result), expected) < 1e-12
    result.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert find_largest_difference(compute_probe_logits(again), expected) < 1e-12
