"""A pattern says which matrix gets which scheme: the layers that stand there, their bytes, and what is refused."""

from collections import Counter
from typing import Any, Final

import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.adapters.counting import build_skeleton, find_quantized_matrices
from sweeplab.config import compatible as rules
from sweeplab.config.adapter import AdapterConfig
from sweeplab.config.model import EmbeddedModel
from sweeplab.config.space import axes, grid
from sweeplab.config.trial import TrialConfig
from sweeplab.models.base import Base, load_base
from sweeplab.models.layers import LinearShape
from sweeplab.models.quantization.schemes import (
    choose_schemes,
    find_quantized_layers,
    list_stored_tensors,
    measure_storage,
)
from sweeplab.planning.phases import forecast_memory
from sweeplab.runtime.errors import ConfigError
from tests.configs import quantize
from tests.models.quantization.test_schemes import SCHEMES
from tests.planning.conftest import CPU as PLANNED_CPU
from tests.planning.conftest import bound
from tests.trials import Compose

CPU: Final = torch.device("cpu")
EMBEDDED: Final = EmbeddedModel(name="tiny_base")
KINDS: Final = {"nf4": "Linear4bit", "fp4": "Linear4bit", "int8": "Linear8bitLt", "hqq2": "HQQLinear"}


def embedded(*quantization: Any, dtype: torch.dtype = torch.float32) -> Base:
    return load_base(EMBEDDED, quantize(*quantization), dtype, CPU)


def test_each_layer_has_the_scheme_of_the_first_pattern_found_in_its_name() -> None:
    pattern = {r"layers\.[01]\..*down_proj": "none", "down_proj|gate": "hqq2", "self_attn": "int8"}
    model = embedded("nf4", False, 128, pattern).model
    for name, module in model.named_modules():
        if not name.endswith("_proj"):
            continue
        early_down = name.endswith("down_proj") and name.split(".")[2] in "01"
        last = name.rpartition(".")[2]
        by_hand = (
            "none" if early_down
            else "hqq2" if last in ("down_proj", "gate_proj")
            else "nf4" if last == "up_proj"
            else "int8"
        )  # fmt: skip
        assert type(module).__name__ == KINDS.get(by_hand, "Linear"), name
    kinds = Counter(type(module).__name__ for _, module in find_quantized_layers(model))
    assert kinds == {"Linear8bitLt": 16, "HQQLinear": 2 + 4, "Linear4bit": 4}


def adapted_kinds(model: PreTrainedModel, adapter: AdapterConfig) -> dict[str, type]:
    """PEFT's class beside every matrix."""
    adapted = attach_adapter(model, adapter, EMBEDDED, seed=0)
    kinds = {name: type(module) for name, module in adapted.named_modules() if isinstance(module, LoraLayer)}
    detach_adapter(adapted)
    return kinds


@pytest.mark.parametrize(("scheme", "double"), [("nf4", False), ("nf4", True), ("fp4", True), ("int8", False)])
def test_layers_replaced_one_by_one_are_those_that_transformers_makes(
    scheme: str, double: bool, make_adapter: Any
) -> None:
    whole, by_layer = embedded(scheme, double).model, embedded("none", double, None, {"_proj": scheme}).model
    layers = dict(find_quantized_layers(by_layer))
    assert len(layers) == 28
    for name, expected in find_quantized_layers(whole):
        assert type(layers[name]) is type(expected)
        assert torch.equal(layers[name].weight, expected.weight)
        for found, stored in zip(list_stored_tensors(layers[name]), list_stored_tensors(expected), strict=True):
            assert torch.equal(found, stored)
    ids = torch.randint(3, 99, (3, 17))
    with torch.no_grad():
        assert torch.equal(by_layer(input_ids=ids).logits, whole(input_ids=ids).logits)
    assert measure_storage(by_layer) == measure_storage(whole)
    adapter = make_adapter("query", "mlp", "head")
    assert adapted_kinds(by_layer, adapter) == adapted_kinds(whole, adapter)


def planned_bytes(config: TrialConfig, base: Base) -> None:
    """The plan's bytes and bits, from sizes alone, against those of the loaded tensors."""
    parts = forecast_memory(config, build_skeleton(config.model), bound(32), PLANNED_CPU).load
    assert parts.base_bytes == measure_storage(base.model).num_bytes
    assert 8 * parts.base_bytes / build_skeleton(config.model).num_params == base.bits_per_param


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_plan_knows_the_bytes_of_every_scheme(scheme: str, compose_trial: Compose) -> None:
    config = compose_trial().replaced(quantization=quantize(*SCHEMES[scheme]))
    base = load_base(config.model, config.quantization, torch.float32, CPU)
    planned_bytes(config, base)
    assert base.num_params == 885_888


@pytest.mark.parametrize("scheme", ["none", "nf4_dq", "int8", "hqq2", "hqq3"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi", "opt", "qwen3"])
def test_the_plan_knows_the_bytes_of_every_family(
    family: str, scheme: str, architectures: Any, compose_trial: Compose
) -> None:
    config = compose_trial("adapter.lora_key=true", "adapter.lora_value=true").replaced(
        model=architectures[family], quantization=quantize(*SCHEMES[scheme])
    )
    base = load_base(config.model, config.quantization, torch.float32, CPU)
    planned_bytes(config, base)
    assert {name for name, _ in find_quantized_layers(base.model)} == {
        matrix.name for _, matrix in find_quantized_matrices(config.quantization, build_skeleton(config.model))
    }


def test_scales_are_planned_in_the_compute_dtype(compose_trial: Compose) -> None:
    config = compose_trial("quantization=hqq3")
    base = embedded("hqq3", False, dtype=torch.bfloat16)
    device = PLANNED_CPU._replace(dtype=torch.bfloat16)
    assert (
        forecast_memory(config, build_skeleton(config.model), bound(32), device).load.base_bytes
        == measure_storage(base.model).num_bytes
    )


def test_a_mixture_is_chosen_varied_and_written_on_the_command_line(compose_trial: Compose) -> None:
    space = {"quantization": {"choices": ["nf4_dq", "mixed"]}}
    composed = [compose_trial(**point).quantization.label() for point in grid(axes(space))]
    assert composed == ["nf4_dq", "nf4_dq; mlp: hqq3"]
    inner = grid(axes({"quantization": {"pattern": {"mlp": {"choices": ["hqq2", "int8"]}}}}))
    varied = [compose_trial("quantization=mixed", **point).quantization.label() for point in inner]
    assert varied == ["nf4_dq; mlp: hqq2", "nf4_dq; mlp: int8"]
    written = compose_trial("quantization=int8", "++quantization.pattern={down_proj:none,q_proj:hqq3}").quantization
    assert written == quantize("int8", pattern={"down_proj": "none", "q_proj": "hqq3"})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["++quantization.pattern={mlp:hqq5}"],
            r"quantization\.pattern\.mlp is unknown, got 'hqq5'; choose one of none, nf4",
        ),
        (["++quantization.pattern={*mlp:int8}"], r"quantization\.pattern must hold regular .* got '\*mlp'; mend it"),
        (["quantization=hqq3", "quantization.group_size=20"], r"group_size must be a multiple of 8, got 20; try 64"),
        (
            ["quantization=hqq3", "quantization.double=true"],
            r"quantization\.double has no effect with quantization=hqq3, got",
        ),
        (["quantization=mixed", "adapter=none"], r"which quantization=nf4_dq; mlp: hqq3 freezes"),
        (["quantization=hqq3", "adapter.initialization=pissa"], r"quantization=hqq3 cannot give back exactly"),
        (["quantization=mixed", "quantization.pattern.mlp=int8", "adapter=dora"], r"adapter\.dora=true needs the norm"),
    ],
)
def test_what_cannot_be_had_is_one_line(overrides: list[str], message: str, compose_trial: Compose) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        compose_trial(*overrides)
    assert "\n" not in str(refused.value)


def test_the_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, compose_trial: Compose) -> None:
    monkeypatch.setattr(rules, "find_spec", lambda name: None)
    compose_trial("quantization=nf4")
    for chosen in ("hqq3", "mixed"):
        with pytest.raises(ConfigError, match=r"scheme=hqq3 needs the package hqq, which is not .* '\.\[hqq\]'"):
            compose_trial(f"quantization={chosen}")


def test_a_pattern_that_matches_nothing_is_refused_by_plan_and_run(compose_trial: Compose) -> None:
    config = compose_trial("++quantization.pattern={lm_head:int8}")
    told = r"quantization\.pattern must match matrices, and 'lm_head' matches none; there are q_proj, .*down_proj"
    with pytest.raises(ConfigError, match=told):
        forecast_memory(config, build_skeleton(config.model), bound(32), PLANNED_CPU)
    with pytest.raises(ConfigError, match=told):
        load_base(config.model, config.quantization, torch.float32, CPU)


@pytest.mark.parametrize(("scheme", "num_groups", "fills"), [("hqq2", 6, False), ("hqq4", 6, True), ("hqq3", 7, True)])
def test_groups_fill_a_matrix_and_its_bytes(scheme: str, num_groups: int, fills: bool) -> None:
    shapes = [LinearShape("even", 64, 64), LinearShape("odd", 64, num_groups)]
    if fills:
        assert set(choose_schemes(quantize(scheme, False, 64), shapes).values()) == {scheme}
        return
    with pytest.raises(ConfigError, match=r"group_size must divide every matrix, .* got 64 for odd \(6 x 64\)"):
        choose_schemes(quantize(scheme, False, 64), shapes)
