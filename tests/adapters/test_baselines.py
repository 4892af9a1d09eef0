"""Every method of conf/adapter: what it trains, how it starts, what it leaves behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from sweeplab.adapters.attach import LORA_FOLDER, attach_adapter, detach_adapter, is_base_kept, save_adapter
from sweeplab.adapters.counting import build_skeleton, count_trainable_params
from sweeplab.adapters.lora import describe_adapter_layers, make_lora_config
from sweeplab.config.adapter import AdapterConfig, LowRankAdapter
from sweeplab.config.model import EmbeddedModel, HubModel, ModelConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.models.base import Base
from sweeplab.models.layers import find_norm_layers
from sweeplab.runtime.errors import ConfigError
from sweeplab.training.optimizers import _find_rate_factor
from tests.architectures import build_tiny_model
from tests.configs import PLAIN, adapter_of

QV: AdapterConfig = PLAIN.replaced(lora_query=True, lora_value=True)
VARIANTS: dict[str, AdapterConfig] = {
    "lora": QV,
    "head": QV.replaced(lora_head=True),
    "rslora": QV.replaced(rslora=True),
    "dora": QV.replaced(dora=True),
    "gaussian": QV.replaced(initialization="gaussian"),
    "budget": QV.replaced(budget=5000),
    "rank_pattern": QV.replaced(rank_pattern={"q_proj": 1}),
    "norms_beside": QV.replaced(train_norms=True),
    "norms": adapter_of("norms"),
    "top_layers": adapter_of("top_layers"),
    "none": adapter_of("none"),
    "prompt": adapter_of("prompt"),
    "prefix": adapter_of("prefix"),
    "lora_prefix": adapter_of("lora_prefix"),
}
IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
RandomModel = Callable[[str], PreTrainedModel]


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        made: Tensor = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    return made[:, -IDS.shape[1] :]


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def step(model: nn.Module) -> None:
    """One large SGD step on an arbitrary loss, so that everything trainable moves."""
    model.train()
    model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits.square().mean().backward()
    with torch.no_grad():
        for weight in trainable(model).values():
            assert weight.grad is not None
            weight.sub_(0.5 * weight.grad)
            weight.grad = None
    model.eval()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # GPT-2's head is its embedding
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True")  # its other layers are Conv1D
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_what_trains_is_what_the_plan_counts(
    family: str, variant: str, random_model: RandomModel, architectures: dict[str, ModelConfig]
) -> None:
    adapter = VARIANTS[variant]
    if family == "gpt2" and isinstance(adapter, LowRankAdapter):
        adapter = adapter.replaced(lora_key=True, rank_pattern={})
    model = attach_adapter(random_model(family), adapter, architectures[family], 0)
    counted = sum(weight.numel() for weight in trainable(model).values())
    assert counted == count_trainable_params(adapter, architectures[family], build_skeleton(architectures[family]))


@pytest.mark.parametrize(
    "variant", ["lora", "head", "rslora", "dora", "gaussian", "norms_beside", "norms", "top_layers"]
)
def test_training_starts_at_the_base_bit_for_bit(
    variant: str, random_model: RandomModel, architectures: dict[str, ModelConfig]
) -> None:
    base = random_model("llama")
    before = logits(base)
    assert torch.equal(logits(attach_adapter(base, VARIANTS[variant], architectures["llama"], 0)), before)


@pytest.mark.parametrize("variant", [name for name, adapter in VARIANTS.items() if is_base_kept(adapter)])
def test_a_method_that_keeps_the_base_leaves_every_weight_bit_equal(
    variant: str, random_model: RandomModel, architectures: dict[str, ModelConfig]
) -> None:
    base = random_model("llama")
    before = {name: value.clone() for name, value in base.state_dict().items()}
    modules = [(name, type(module)) for name, module in base.named_modules()]
    model = attach_adapter(base, VARIANTS[variant], architectures["llama"], 0)
    start = logits(model)
    step(model)
    assert not torch.equal(logits(model), start)
    detach_adapter(model)
    assert [(name, type(module)) for name, module in base.named_modules()] == modules
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


@pytest.mark.parametrize("variant", ["lora", "dora", "rslora"])
def test_nf4_base_is_kept_bit_for_bit(variant: str, nf4_base: Base) -> None:
    before = logits(nf4_base.model)
    model = attach_adapter(nf4_base.model, VARIANTS[variant], EmbeddedModel(name="tiny_base"), 0)
    assert torch.equal(logits(model), before)
    step(model)
    detach_adapter(model)
    assert torch.equal(logits(nf4_base.model), before)


def adapted_matrix(model: nn.Module, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """W, A and B of one adapted matrix."""
    layer = model.get_submodule(f"base_model.model.{name}")
    a, b = (getattr(layer, f"lora_{part}")["default"].weight for part in "AB")
    return layer.base_layer.weight, a, b  # type: ignore[return-value]


@pytest.mark.parametrize(("rslora", "scaling"), [(False, 6.0 / 9), (True, 6.0 / 3)])
def test_lora_is_w_plus_scaled_b_a(
    rslora: bool, scaling: float, random_model: RandomModel, architectures: dict[str, ModelConfig]
) -> None:
    name = "model.layers.1.self_attn.q_proj"
    adapter = QV.replaced(rank=9, alpha=6.0, rslora=rslora)
    model = attach_adapter(random_model("llama"), adapter, architectures["llama"], 0).double()
    step(model)
    weight_OI, a_RI, b_OR = adapted_matrix(model, name)
    x_NI = torch.randn(7, weight_OI.shape[1], dtype=torch.float64)
    expected = x_NI @ (weight_OI + scaling * b_OR @ a_RI).T
    torch.testing.assert_close(model.get_submodule(f"base_model.model.{name}")(x_NI), expected, rtol=1e-12, atol=1e-12)
    effective = {layer["name"]: layer for layer in describe_adapter_layers(model, lambda name: 0.1)}
    assert effective[name] == {"name": name, "rank": 9, "alpha": 6.0, "scaling": scaling, "lr_A": 0.1, "lr_B": 0.1}


def test_dora_is_magnitude_times_normed_direction(
    random_model: RandomModel, architectures: dict[str, ModelConfig]
) -> None:
    name = "model.layers.0.self_attn.v_proj"
    model = attach_adapter(random_model("llama"), VARIANTS["dora"], architectures["llama"], 0).double()
    step(model)
    layer = model.get_submodule(f"base_model.model.{name}")
    magnitude_O = layer.lora_magnitude_vector["default"].weight  # type: ignore[index]
    weight_OI, a_RI, b_OR = adapted_matrix(model, name)
    direction_OI = weight_OI + 2.0 * b_OR @ a_RI
    x_NI = torch.randn(7, weight_OI.shape[1], dtype=torch.float64)
    expected = x_NI @ (magnitude_O[:, None] * direction_OI / direction_OI.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(layer(x_NI), expected, rtol=1e-12, atol=1e-12)


def test_patterns_reach_rank_alpha_and_rates(random_model: RandomModel, architectures: dict[str, ModelConfig]) -> None:
    rates = {"lr_pattern": {r"layers\.1\.": 0.5}, "lr_ratio": 16.0}
    adapter = QV.replaced(rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32.0}, **rates)
    layers = describe_adapter_layers(
        attach_adapter(random_model("llama"), adapter, architectures["llama"], 0),
        lambda name: 1e-3 * _find_rate_factor(name, adapter.lr_pattern, adapter.factor_of_b()),
    )
    assert [(one["name"][-24:], one["rank"], one["scaling"], one["lr_A"], one["lr_B"]) for one in layers] == [
        ("layers.0.self_attn.q_proj"[-24:], 2, 4.0, 1e-3, 16e-3),
        ("layers.0.self_attn.v_proj"[-24:], 4, 8.0, 1e-3, 16e-3),
        ("layers.1.self_attn.q_proj"[-24:], 2, 4.0, 5e-4, 8e-3),
        ("layers.1.self_attn.v_proj"[-24:], 4, 8.0, 5e-4, 8e-3),
    ]


@pytest.mark.parametrize("family", ["gpt2", "opt", "qwen2"])
def test_bitfit_trains_exactly_the_biases(
    family: str, random_model: RandomModel, architectures: dict[str, ModelConfig]
) -> None:
    model = attach_adapter(random_model(family), adapter_of("bitfit"), architectures[family], 0)
    every = {name for name, _ in model.named_parameters()}
    assert set(trainable(model)) == {name for name in every if name.rpartition(".")[2] == "bias"} != set()


def test_bitfit_needs_biases(random_model: RandomModel, architectures: dict[str, ModelConfig]) -> None:
    with pytest.raises(ConfigError, match="adapter=bitfit finds nothing to train: llama has no such weights"):
        attach_adapter(random_model("llama"), adapter_of("bitfit"), architectures["llama"], 0)


def test_top_layers_are_the_last_ones(random_model: RandomModel, architectures: dict[str, ModelConfig]) -> None:
    model = attach_adapter(random_model("llama"), adapter_of("top_layers"), architectures["llama"], 0)
    every = {name for name, _ in model.named_parameters()}
    assert set(trainable(model)) == {name for name in every if name.startswith("model.layers.1.")} != set()


def test_norms_are_the_normalization_layers(random_model: RandomModel, architectures: dict[str, ModelConfig]) -> None:
    model = attach_adapter(random_model("qwen3"), adapter_of("norms"), architectures["qwen3"], 0)
    assert set(trainable(model)) == {f"{name}.weight" for name in find_norm_layers(model)}
    assert all("norm" in name for name in trainable(model))


@pytest.mark.parametrize("variant", ["lora", "rslora", "dora", "rank_pattern", "norms_beside", "prompt", "prefix"])
def test_peft_loads_what_was_saved_and_gives_the_same_logits(
    variant: str, random_model: RandomModel, architectures: dict[str, ModelConfig], tmp_path: Path
) -> None:
    model = attach_adapter(random_model("llama"), VARIANTS[variant], architectures["llama"], 0)
    step(model)
    save_adapter(model, tmp_path)
    loaded = PeftModel.from_pretrained(random_model("llama"), str(tmp_path)).eval()
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize("initialization", ["olora", "pissa", "orthogonal"])
def test_an_initialization_that_changes_the_base_is_loaded_by_peft(
    initialization: str, random_model: RandomModel, architectures: dict[str, ModelConfig], tmp_path: Path
) -> None:
    adapter = QV.replaced(initialization=initialization)
    base = random_model("llama")
    before = logits(base)
    model = attach_adapter(base, adapter, architectures["llama"], 0)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)  # its part leaves W and comes back as B A
    step(model)
    save_adapter(model, tmp_path)
    torch.manual_seed(0)
    loaded = PeftModel.from_pretrained(random_model("llama"), str(tmp_path)).eval()
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-5)
    assert not is_base_kept(adapter)


def test_both_parts_of_lora_and_prefix_are_loaded_by_peft(
    random_model: RandomModel, architectures: dict[str, ModelConfig], tmp_path: Path
) -> None:
    model = attach_adapter(random_model("llama"), VARIANTS["lora_prefix"], architectures["llama"], 0)
    step(model)
    save_adapter(model, tmp_path)
    base = random_model("llama")
    PeftModel.from_pretrained(base, str(tmp_path / LORA_FOLDER))  # puts its layers into the base
    loaded = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapter=none"], "adapter=none trains weights of the base, which quantization=nf4_dq freezes"),
        (["adapter=top_layers"], "adapter=top_layers trains weights of the base"),
        (["adapter.initialization=pissa"], "adapter.initialization=pissa takes its part out of the base's weights"),
        (["adapter=dora", "quantization=int8"], "adapter.dora=true needs the norm of every weight"),
        (["adapter.bias=some"], "adapter.bias is unknown, got 'some'; choose one of none, all, lora_only"),
        (["adapter.lr_ratio=0"], "adapter.lr_ratio must be above 0, got 0"),
        (["adapter.budget=0"], "adapter.budget must be at least 1, got 0"),
    ],
)
def test_what_cannot_go_together_is_refused(
    overrides: list[str], message: str, compose_trial: Callable[..., TrialConfig]
) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_trial(*overrides)


def test_norms_are_refused_where_a_model_has_none() -> None:
    adapter = PLAIN.replaced(train_norms=True, lora_query=True)
    model = HubModel(name="olmo", modules={"query": ["q_proj"]})
    with pytest.raises(
        ConfigError, match=r"^adapter\.train_norms=true finds no normalization layer with weights in olmo"
    ):
        make_lora_config(adapter, model, build_tiny_model("olmo"))


def test_norms_are_found_by_what_they_compute() -> None:
    """Nemotron's class is called LayerNorm1P, those of Mamba's hybrids RMSNormGated."""
    assert len(find_norm_layers(build_tiny_model("nemotron"))) == 2 * 4 + 1
    kinds = {type(norm).__name__ for norm in find_norm_layers(build_tiny_model("bamba")).values()}
    assert kinds == {"BambaRMSNorm", "BambaRMSNormGated"}
