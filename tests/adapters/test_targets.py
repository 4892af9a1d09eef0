from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from sweeplab.adapters.attach import attach_adapter
from sweeplab.adapters.counting import build_skeleton, count_trainable_params
from sweeplab.adapters.targets import (
    classify_module,
    describe_parameters,
    find_matching_modules,
    find_targets,
    refuse_parameters_in_parts,
    refuse_quantized_parameters,
)
from sweeplab.config.adapter import TOGGLES, LoraAdapter
from sweeplab.config.model import ModelConfig
from sweeplab.runtime.errors import ConfigError
from tests.configs import adapter_of

Architectures = dict[str, ModelConfig]
MakeAdapter = Callable[..., LoraAdapter]
MASKS = [dict(zip(TOGGLES, mask, strict=True)) for mask in product((False, True), repeat=6)]
ATTENTION = ("query", "key", "value")

LLAMA = {
    "query": ["model.layers.{}.self_attn.q_proj"],
    "key": ["model.layers.{}.self_attn.k_proj"],
    "value": ["model.layers.{}.self_attn.v_proj"],
    "projection": ["model.layers.{}.self_attn.o_proj"],
    "mlp": ["model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj", "model.layers.{}.mlp.down_proj"],
    "head": ["lm_head"],
}
PEFT_SPEAKS_UP = pytest.mark.filterwarnings(  # of GPT-2's two kinds of matrix, and of heads tied to the embedding
    "ignore:fan_in_fan_out is set to:UserWarning", "ignore:Model has `tie_word_embeddings=True`:UserWarning"
)
FUSED_PHI3 = ["model.layers.{}.self_attn.qkv_proj"]
FUSED_NEOX = ["gpt_neox.layers.{}.attention.query_key_value"]
FUSED_GPT2 = ["transformer.h.{}.attn.c_attn"]
DECODER = "model.decoder.layers.{}."
# Full module names of each toggle, written by hand from the models' own code.
EXPECTED: dict[str, dict[str, list[str]]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), LLAMA),
    "phi": {
        **LLAMA,
        "projection": ["model.layers.{}.self_attn.dense"],
        "mlp": ["model.layers.{}.mlp.fc1", "model.layers.{}.mlp.fc2"],
    },
    "phi3": {
        **LLAMA,
        **dict.fromkeys(ATTENTION, FUSED_PHI3),
        "mlp": ["model.layers.{}.mlp.gate_up_proj", "model.layers.{}.mlp.down_proj"],
    },
    "gpt_neox": {
        **dict.fromkeys(ATTENTION, FUSED_NEOX),
        "projection": ["gpt_neox.layers.{}.attention.dense"],
        "mlp": ["gpt_neox.layers.{}.mlp.dense_h_to_4h", "gpt_neox.layers.{}.mlp.dense_4h_to_h"],
        "head": ["lm_head"],
    },
    "gpt2": {
        **dict.fromkeys(ATTENTION, FUSED_GPT2),
        "projection": ["transformer.h.{}.attn.c_proj"],
        "mlp": ["transformer.h.{}.mlp.c_fc", "transformer.h.{}.mlp.c_proj"],
        "head": ["lm_head"],
    },
    "vit": {
        "query": ["vit.layers.{}.attention.q_proj"],
        "key": ["vit.layers.{}.attention.k_proj"],
        "value": ["vit.layers.{}.attention.v_proj"],
        "projection": ["vit.layers.{}.attention.o_proj"],
        "mlp": ["vit.layers.{}.mlp.fc1", "vit.layers.{}.mlp.fc2"],
        "head": ["classifier"],
    },
    "opt": {
        "query": [DECODER + "self_attn.q_proj"],
        "key": [DECODER + "self_attn.k_proj"],
        "value": [DECODER + "self_attn.v_proj"],
        "projection": [DECODER + "self_attn.out_proj"],
        "mlp": [DECODER + "fc1", DECODER + "fc2"],
        "head": ["lm_head"],
    },
}
FUSED = ("phi3", "gpt_neox", "gpt2")


def full_names(family: str, enabled: list[str]) -> set[str]:
    """Names of both layers' modules for the toggles in `enabled`."""
    return {name.format(layer) for toggle in enabled for name in EXPECTED[family][toggle] for layer in (0, 1)}


def adapted_names(model: Any) -> set[str]:
    return {
        name.removeprefix("base_model.model.")
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and len(module.lora_A)
    }


def fits(family: str, mask: dict[str, bool]) -> bool:
    """All off adapts nothing; a fused matrix serves all of its toggles or none."""
    return any(mask.values()) and (family not in FUSED or len({mask[toggle] for toggle in ATTENTION}) == 1)


@PEFT_SPEAKS_UP
@pytest.mark.parametrize("family", EXPECTED)
def test_each_toggle_adapts_exactly_its_modules(
    family: str, architectures: Architectures, make_adapter: MakeAdapter, random_model: Any
) -> None:
    groups = [["query", "key", "value"], ["projection"], ["mlp"], ["head"]]
    if family not in FUSED:
        groups += [["query"], ["key"], ["value"]]
    for enabled in groups:
        model = attach_adapter(random_model(family), make_adapter(*enabled), architectures[family], seed=0)
        assert adapted_names(model) == full_names(family, enabled), enabled


# slow: 64 masks of a family; every family's modules are checked above, and these three name them most differently
@PEFT_SPEAKS_UP
@pytest.mark.parametrize(
    "family",
    [pytest.param(one, marks=() if one in ("llama", "gpt2", "phi3") else pytest.mark.slow) for one in EXPECTED],
)
def test_counts_equal_those_of_peft_for_every_mask(
    family: str, architectures: Architectures, make_adapter: MakeAdapter, random_model: Any
) -> None:
    sizes = build_skeleton(architectures[family])
    assert sizes.num_params == random_model(family).num_parameters()
    for mask in MASKS:
        if not fits(family, mask):
            continue
        enabled = [toggle for toggle in TOGGLES if mask[toggle]]
        exact = LoraConfig(r=3, target_modules=sorted(full_names(family, enabled)), fan_in_fan_out=family == "gpt2")
        num_trainable, _ = get_peft_model(random_model(family), exact).get_nb_trainable_parameters()
        assert count_trainable_params(make_adapter(*enabled, rank=3), architectures[family], sizes) == num_trainable, (
            enabled
        )


def test_all_masks_compose_to_distinct_targets_and_all_off_is_refused(make_adapter: MakeAdapter) -> None:
    names = sorted(full_names("llama", list(TOGGLES)))
    targets = []
    for mask in MASKS[1:]:
        adapter = make_adapter(*(toggle for toggle in TOGGLES if mask[toggle]))
        LoraAdapter.model_validate(adapter.to_dict())
        targets.append(frozenset(find_targets(adapter, "llama", {}, names).modules))
    assert len(set(targets)) == len(targets) == 63
    with pytest.raises(ConfigError, match=r"every toggle off.*lora_query, lora_key.*lora_head"):
        LoraAdapter.model_validate(make_adapter().to_dict())


@pytest.mark.parametrize("family", FUSED)
def test_fused_attention_is_adapted_whole_or_refused(family: str, make_adapter: MakeAdapter) -> None:
    names = sorted(full_names(family, list(TOGGLES)))
    for mask in MASKS[1:]:
        adapter = make_adapter(*(toggle for toggle in TOGGLES if mask[toggle]))
        if fits(family, mask):
            targets = find_targets(adapter, family, {}, names).modules
            assert {name for target in targets for name in find_matching_modules(names, target)} == full_names(
                family, adapter.enabled()
            )
        else:
            with pytest.raises(
                ConfigError, match=r"adapter.lora_\w+=true with lora_\w+=false.*one matrix.*set both alike"
            ):
                find_targets(adapter, family, {}, names)


def test_names_that_say_nothing_need_modules(make_adapter: MakeAdapter) -> None:
    names = ["block.0.alpha", "block.0.beta", "block.0.up"]
    with pytest.raises(
        ConfigError,
        match=r"adapter.lora_query=true matches no module of a strange \(none is called as one\); linear modules here: "
        r"alpha, beta, up; name the right ones, such as model\.modules=\{query:\[q_proj\],value:\[v_proj\]\}",
    ):
        find_targets(make_adapter("query"), "strange", {}, names)
    modules = {"query": ["alpha"], "mlp": ["up"]}
    assert find_targets(make_adapter("query", "mlp"), "strange", modules, names).modules == ["alpha", "up"]
    with pytest.raises(ConfigError, match=r"adapter.lora_key=true matches no module of a strange \(none named\)"):
        find_targets(make_adapter("query", "key"), "strange", {"query": ["alpha"]}, names)
    with pytest.raises(ConfigError, match=r"adapter.lora_query=true matches no module of a strange \(gamma\)"):
        find_targets(make_adapter("query"), "strange", {"query": ["gamma"]}, names)


def test_names_of_a_user_s_own_that_are_fused_are_found(make_adapter: MakeAdapter) -> None:
    modules, names = {"query": ["attn.qkv"], "value": ["qkv"]}, ["h.0.attn.qkv", "h.1.attn.qkv"]
    with pytest.raises(ConfigError, match=r"lora_query=true with lora_value=false.*one matrix \(qkv\)"):
        find_targets(make_adapter("query"), "strange", modules, names)


@pytest.mark.parametrize(
    ("name", "toggles"),
    [
        ("model.layers.0.self_attn.q_proj", ("query",)),
        ("model.layers.0.mixer.k_proj", ("key",)),  # Nemotron-H calls every block a mixer
        ("transformer.h.0.attn.c_proj", ("projection",)),
        ("transformer.h.0.mlp.c_proj", ("mlp",)),
        ("bert.encoder.layer.0.attention.output.dense", ("projection",)),
        ("bert.encoder.layer.0.output.dense", ("mlp",)),
        ("attention_model.layers.0.mlp.gate_proj", ("mlp",)),  # what stands around the layers says nothing
        ("transformer.attentions.0.q_lin", ("query",)),  # XLM
        ("transformer.attentions.0.out_lin", ("projection",)),
        ("transformer.ffns.0.lin1", ("mlp",)),
        ("my_prenorm.layers.0.attention.self.query", ("query",)),
        ("model.layers.0.self_attn.gate_proj", ()),  # a gate on attention's result
        ("model.layers.0.mlp.router.gate_proj", ()),
        ("model.layers.0.mlp.gate.down_proj", ()),
        ("model.layers.0.mamba.out_proj", ()),
        ("model.layers.0.conv.out_proj", ()),
        ("model.layers.0.mlp.shared_expert_gate", ()),
        ("lm_head", ("head",)),
        ("cls.predictions.decoder", ("head",)),
        ("cls.predictions.transform.dense", ()),
        ("model.per_layer_model_projection", ()),
        ("q_proj", ()),
    ],
)
def test_what_a_name_says(name: str, toggles: tuple[str, ...]) -> None:
    assert classify_module(name) == toggles


def test_parameters_of_a_base_in_parts_or_packed_are_refused(compose_trial: Any) -> None:
    why = describe_parameters(["layers.0.mlp.experts.down_proj"])
    assert why == "PEFT adapts layers.0.mlp.experts.down_proj as a parameter, for all rows of a batch at once"
    assert describe_parameters([]) is None
    parts = compose_trial("training.strategy=fsdp", "training.num_devices=2", "training.micro_batch_size=4")
    with pytest.raises(
        ConfigError, match=r"^training.strategy=fsdp does not go with this trial: PEFT adapts .*single or"
    ):
        refuse_parameters_in_parts(parts, why)
    refuse_parameters_in_parts(compose_trial(), why)
    names = ["layers.0.mlp.experts.down_proj", "layers.0.mlp.shared_experts.up_proj.weight"]
    refuse_quantized_parameters(names, ["layers.0.self_attn.q_proj"], "glm4_moe")
    said = r"^adapter.lora_mlp=true adapts layers.0.mlp.shared_experts.up_proj.weight of a glm4_moe as a parameter"
    with pytest.raises(ConfigError, match=said):
        refuse_quantized_parameters(names, ["layers.0.mlp.shared_experts.up_proj"], "glm4_moe")


def test_a_user_s_own_names_choose_experts_or_leave_them_out(make_adapter: MakeAdapter) -> None:
    linears, experts = ["layers.0.mlp.shared.up"], ["layers.0.mlp.experts.up", "layers.0.mlp.experts.down"]
    asked = {
        "shared.up": (["shared.up"], []),
        "experts.down": ([], experts[1:]),
        "up": (["up"], experts[:1]),
    }
    for target, (modules, parameters) in asked.items():
        found = find_targets(make_adapter("mlp"), "strange", {"mlp": [target]}, linears, experts)
        assert found == (modules, parameters), target


def test_targets_are_as_short_as_they_can_be_and_exact(make_adapter: MakeAdapter) -> None:
    """`gate_proj` alone would select attention's gate, too."""
    layer = ("self_attn.q_proj", "self_attn.gate_proj", "mlp.gate_proj", "mlp.shared_experts.gate_proj", "mlp.up_proj")
    names = [f"model.layers.{number}.{name}" for number in range(12) for name in layer]
    found = find_targets(make_adapter("query", "mlp"), "strange", {}, names).modules
    assert found == ["q_proj", "mlp.gate_proj", "shared_experts.gate_proj", "up_proj"]


def test_suffixes_match_whole_names_only(make_adapter: MakeAdapter) -> None:
    assert find_matching_modules(["a.q_proj", "a.xq_proj", "q_proj", "q_proj.a"], "q_proj") == ["a.q_proj", "q_proj"]
    assert find_matching_modules(["h.0.attn.c_proj", "h.0.mlp.c_proj"], "attn.c_proj") == ["h.0.attn.c_proj"]


# Sum of r (d_in + d_out); the figures of QLoRA studies with these toggles, and each by hand from the models' sizes.
PUBLISHED = [
    ("llama2_7b", 6_738_415_616, ("query", "value"), 8, 4_194_304),
    ("llama2_7b", 6_738_415_616, TOGGLES, 8, 20_277_248),
    ("llama2_7b", 6_738_415_616, TOGGLES, 16, 40_554_496),
    ("llama2_7b", 6_738_415_616, TOGGLES, 256, 648_871_936),
    ("llama2_13b", 13_015_864_320, ("query", "value"), 8, 6_553_600),
    ("phi_1_5", 1_418_270_720, ("query", "value"), 8, 1_572_864),
    ("llama3_8b", 8_030_261_248, ("query", "value"), 8, 8 * 32 * ((4096 + 4096) + (4096 + 1024))),
    ("qwen", 8_190_735_360, ("query", "value"), 8, 8 * 36 * ((4096 + 4096) + (4096 + 1024))),
    ("vit_base", 86_567_656, ("query", "value"), 8, 294_912),
]


@pytest.mark.parametrize(("option", "num_params", "enabled", "rank", "expected"), PUBLISHED)
def test_published_counts(
    compose_trial: Any,
    make_adapter: MakeAdapter,
    option: str,
    num_params: int,
    enabled: tuple[str, ...],
    rank: int,
    expected: int,
) -> None:
    model = compose_trial(f"model={option}").model
    sizes = build_skeleton(model)
    adapter = make_adapter(*enabled, rank=rank)
    assert sizes.num_params == num_params
    assert count_trainable_params(adapter, model, sizes) == expected
    assert count_trainable_params(adapter_of("none"), model, sizes) == num_params
