"""The embedded vision base and its adapters: starts, steps, quantization, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from peft import PeftModel
from torch import Tensor, nn
from transformers import PretrainedConfig, ViTConfig, ViTForImageClassification

from sweeplab.adapters.attach import attach_adapter, detach_adapter, save_adapter
from sweeplab.adapters.counting import build_skeleton, count_trainable_params
from sweeplab.builtin.digits import ImageSize, split_digits
from sweeplab.config.adapter import TOGGLES, AdapterConfig
from sweeplab.config.model import EmbeddedModel, LocalModel
from sweeplab.models.base import _EMBEDDED, Base, load_base, read_architecture
from sweeplab.models.layers import find_linear_layers
from sweeplab.models.vision import read_image_size, refuse_other_family
from sweeplab.runtime.errors import ConfigError
from tests.configs import PLAIN, adapter_of, quantize

MODEL = EmbeddedModel(name="tiny_vit")
CPU = torch.device("cpu")
QV = PLAIN.replaced(lora_query=True, lora_value=True)
ALL = PLAIN.replaced(**{f"lora_{toggle}": True for toggle in TOGGLES})
VARIANTS: dict[str, AdapterConfig] = {
    "query and value": QV,
    "all": ALL,
    "dora": QV.replaced(dora=True),
    "rslora": ALL.replaced(rslora=True),
    "norms beside": QV.replaced(train_norms=True),
    "bitfit": adapter_of("bitfit"),
    "norms": adapter_of("norms"),
    "top layers": adapter_of("top_layers"),
    "none": adapter_of("none"),
}


def load(scheme: str = "none", double: bool = False) -> Base:
    return load_base(MODEL, quantize(scheme, double), torch.float32, CPU)


@pytest.fixture(params=["none", "nf4", "nf4_dq", "fp4", "int8"])
def base(request: Any) -> Base:
    scheme, _, double = request.param.partition("_")
    return load(scheme, bool(double))


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.tensor([image.pixels for image in split_digits("rotated")[1][:6]])[:, None] / 8 - 1


def logits(model: nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        made: Tensor = model.eval()(pixel_values=pixels).logits
    return made


def step(model: nn.Module, pixels: Tensor) -> None:
    """One large SGD step on an arbitrary loss, so that everything trainable moves."""
    model.train()(pixel_values=pixels).logits.square().mean().backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                assert weight.grad is not None
                weight.sub_(0.5 * weight.grad)


def matrix_kinds(model: nn.Module) -> dict[str, type[nn.Module]]:
    return {name: type(module) for name, module in find_linear_layers(model)}


@pytest.mark.parametrize("adapter", [QV, ALL], ids=["query and value", "all"])
def test_an_adapter_starts_at_the_base_moves_and_leaves_it_bit_for_bit(
    base: Base, adapter: AdapterConfig, pixels: Tensor
) -> None:
    before = logits(base.model, pixels)
    state = {name: value.clone() for name, value in base.model.state_dict().items()}
    kinds = matrix_kinds(base.model)
    model = attach_adapter(base.model, adapter, MODEL, seed=0)
    assert torch.equal(logits(model, pixels), before)
    step(model, pixels)
    assert not torch.equal(logits(model, pixels), before)
    detach_adapter(model)
    assert matrix_kinds(base.model) == kinds
    after = base.model.state_dict()
    assert {name for name, value in state.items() if not torch.equal(after[name], value)} == set()
    assert torch.equal(logits(base.model, pixels), before)


@pytest.mark.parametrize(("scheme", "kind"), [("nf4", Linear4bit), ("int8", Linear8bitLt)])
def test_every_matrix_is_quantized_but_the_head(scheme: str, kind: type[nn.Module]) -> None:
    kinds = matrix_kinds(load(scheme).model)
    assert kinds.pop("classifier") is nn.Linear
    assert len(kinds) == 2 * 6
    assert set(kinds.values()) == {kind}
    assert {shape.name for shape in build_skeleton(MODEL).quantizable} == set(
        kinds
    )  # so for the plan, HQQ and patterns


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_trains_is_what_the_plan_counts(variant: str) -> None:
    adapter = VARIANTS[variant]
    model = attach_adapter(load().model, adapter, MODEL, seed=0)
    counted = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert counted == count_trainable_params(adapter, MODEL, build_skeleton(MODEL))


def test_a_saved_adapter_is_read_by_peft_alone(tmp_path: Path, pixels: Tensor) -> None:
    model = attach_adapter(load().model, ALL, MODEL, seed=0)
    step(model, pixels)
    save_adapter(model, tmp_path)
    plain = ViTForImageClassification.from_pretrained(_EMBEDDED.with_name("tiny_vit"))
    assert torch.equal(logits(PeftModel.from_pretrained(plain, str(tmp_path)), pixels), logits(model, pixels))


@pytest.mark.parametrize(("orientation", "share"), [("upright", 0.96), ("rotated", 0.17)])
def test_the_base_reads_upright_digits_and_no_rotated_ones(orientation: str, share: float) -> None:
    heldout = split_digits(orientation)[1]
    made = logits(load().model, torch.tensor([image.pixels for image in heldout])[:, None] / 8 - 1).argmax(-1)
    hits = sum(guess == image.label for guess, image in zip(made.tolist(), heldout, strict=True))
    assert hits / len(heldout) == pytest.approx(share, abs=0.005)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's own ViT, random: three channels of 12 x 12 pixels, twelve classes."""
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=12,
        patch_size=4,
        id2label={label: str(label) for label in range(12)},
    )
    ViTForImageClassification(config).save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_of_ones_own_is_loaded_by_its_architecture(folder: Path) -> None:
    model = LocalModel(name="own", path=str(folder))
    base = load_base(model, quantize("none", False), torch.float32, CPU)
    assert isinstance(base.model, ViTForImageClassification)
    assert base.tokenizer is None
    assert read_image_size(base.model.config) == ImageSize(num_channels=3, side=12, num_tokens=10)
    own = ViTForImageClassification.from_pretrained(folder)
    pixels = torch.randn(2, 3, 12, 12)
    assert torch.equal(logits(base.model, pixels), logits(own, pixels))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ViTConfig(), r"vit must tell at least 10 classes apart for data=digits, got num_labels=2; save it with"),
        (ViTConfig(image_size=[224, 192]), r"vit must have whole numbers image_size, .* got \[224, 192\], 16 and 3;"),
        (PretrainedConfig(), r"got null, null and null; choose a vision transformer, such as model=tiny_vit"),
    ],
)
def test_a_model_that_cannot_read_the_digits_is_refused(config: PretrainedConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_image_size(config)


def test_text_and_images_are_kept_apart(compose_trial: Any) -> None:
    text, images = compose_trial(), compose_trial("model=tiny_vit", "data=digits")
    language, vision = read_architecture(text.model), read_architecture(images.model)
    refuse_other_family(language, text.data)
    refuse_other_family(vision, images.data)
    with pytest.raises(ConfigError, match=r"^data.name=digits does not go with this model, a llama, which is a lang"):
        refuse_other_family(language, images.data)
    with pytest.raises(ConfigError, match=r"^data.name=tiny_facts does not .* a vit, which is an image .* data=digits"):
        refuse_other_family(vision, text.data)
