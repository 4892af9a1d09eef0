"""Finds matrices, norms and blocks in a base by what its modules are; of a base that sees or hears, those that text
reaches."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from sweeplab.models.vision import find_image_head

_OTHER_SENSES: Final = re.compile(r"vision|visual|image|audio|speech|video|multi_?modal")
_CROSS_ATTENTION: Final = re.compile(r"^(encoder_attn|cross_attn|crossattention)(_layer_norm)?$")
_OWN_ATTENTION: Final = re.compile(r"^(self_attn|self_attention|attention|attn)$")
_WITHOUT_GRADIENT: Final = re.compile(r"^(indexer|pooler)$")  # chooses tokens; sums up a text that is to be classified
_norm_kinds: dict[type[nn.Module], bool] = {}  # what was found of each class


class LinearShape(NamedTuple):
    """One matrix of the model: out_features x in_features."""

    name: str
    in_features: int
    out_features: int


class ExpertShape(NamedTuple):
    """Matrices that PEFT adapts as one parameter, each out_features x in_features: those of all experts of a block."""

    name: str  # of the parameter
    num_experts: int
    in_features: int
    out_features: int


def choose_text_names(model: nn.Module) -> Callable[[str], bool]:
    """Returns a test for names of modules and parameters: true where text reaches them, and a gradient comes back.

    In a base with towers for images or sound, text passes only the decoder and the head. Attention to an encoder, and
    a block that has no other attention, computes nothing without the encoder.
    """
    parts = _list_text_parts(model)
    blocks = _list_cross_blocks(model)

    def is_reached(name: str) -> bool:
        segments = name.split(".")
        if any(_CROSS_ATTENTION.search(one) or _WITHOUT_GRADIENT.search(one) for one in segments):
            return False
        if any(name == block or name.startswith(f"{block}.") for block in blocks):
            return False
        if parts is None:
            return True
        within = any(name == part or name.startswith(f"{part}.") for part in parts) or "" in parts
        return within and not any(_OTHER_SENSES.search(segment) for segment in segments)

    return is_reached


def _list_cross_blocks(model: nn.Module) -> list[str]:
    """Names of the blocks that attend only to an encoder, as every fifth of Mllama does."""
    found = []
    for name, module in model.named_modules():
        names = [child for child, _ in module.named_children()]
        has_cross = any(_CROSS_ATTENTION.search(child) for child in names)
        if has_cross and not any(_OWN_ATTENTION.search(child) for child in names):
            found.append(name)
    return found


def _list_text_parts(model: nn.Module) -> list[str] | None:
    """Names of the decoder and of the head; None where the whole model reads text, or classifies images."""
    config = getattr(model, "config", None)
    if config is None or not getattr(config, "sub_configs", None) or find_image_head(config) is not None:
        return None
    assert isinstance(model, PreTrainedModel)
    wanted = [model.get_decoder(), model.get_output_embeddings()]
    return [name for name, module in model.named_modules() if any(module is one for one in wanted)]


def find_linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every matrix of the model. Layers of bitsandbytes are `nn.Linear`, too; HQQ's are not."""
    kinds = (nn.Linear, Conv1D)
    return ((name, one) for name, one in model.named_modules() if isinstance(one, kinds) or hasattr(one, "W_q"))


def _read_shape(name: str, module: nn.Module) -> LinearShape:
    if isinstance(module, Conv1D):
        return LinearShape(name, module.weight.shape[0], module.weight.shape[1])
    layer: Any = module
    return LinearShape(name, layer.in_features, layer.out_features)


def list_linear_shapes(model: nn.Module) -> list[LinearShape]:
    """The matrices that an adapter can stand beside: those that text, or an image classifier's image, reaches."""
    is_reached = choose_text_names(model)
    return [_read_shape(name, module) for name, module in find_linear_layers(model) if is_reached(name)]


def list_expert_shapes(model: nn.Module) -> list[ExpertShape]:
    """The tensors of three dimensions that hold experts, and that text reaches."""
    is_reached = choose_text_names(model)
    shapes = []
    for name, module in model.named_modules():
        if not name.endswith("experts") or not is_reached(name):
            continue
        for own, weight in module.named_parameters(recurse=False):
            if weight.ndim == 3:
                num_experts, *sides = weight.shape
                out_features, in_features = reversed(sides) if getattr(module, "is_transposed", False) else sides
                shapes.append(ExpertShape(f"{name}.{own}", num_experts, in_features, out_features))
    return shapes


def list_unreached_layers(model: nn.Module) -> list[str]:
    """Names of the matrices that text does not reach."""
    is_reached = choose_text_names(model)
    return [name for name, _ in find_linear_layers(model) if not is_reached(name)]


def find_norm_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every LayerNorm or RMSNorm with weights, by name, whatever its class is called: see `_is_norm`."""
    is_reached = choose_text_names(model)
    return {name: module for name, module in model.named_modules() if is_reached(name) and _is_norm(module)}


def _is_norm(module: nn.Module) -> bool:
    """True for a module of one or two parameters of one shape, whose result does not grow with its input."""
    shapes = [tuple(weight.shape) for weight in module.parameters(recurse=False)]
    if len(shapes) not in (1, 2) or len(set(shapes)) > 1 or len(shapes[0]) not in (1, 2):
        return False
    if isinstance(module, nn.Embedding | nn.Linear) or next(module.children(), None) is not None:
        return False
    kind = type(module)
    if kind not in _norm_kinds:
        _norm_kinds[kind] = isinstance(module, nn.LayerNorm | nn.RMSNorm) or _keeps_scale(module, shapes[0])
    return _norm_kinds[kind]


@torch.no_grad()
def _keeps_scale(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether 64 times the input gives the same result, a gated norm's with a gate of ones; tried on a copy."""
    copied = deepcopy(module).to_empty(device="cpu", recurse=False).float()
    for parameter in copied.parameters():
        parameter.fill_(1.0)
    numbers = torch.randn(1, 4, *shape, generator=torch.Generator().manual_seed(0))
    for gate in ([], [torch.ones_like(numbers)]):
        try:
            once, larger = copied(numbers, *gate), copied(64 * numbers, *gate)
        except Exception:  # modules of any family: one that cannot read a vector of its width is no norm
            continue
        if isinstance(once, Tensor) and once.shape == numbers.shape:
            return torch.allclose(once, larger, rtol=1e-3, atol=1e-4)
    return False


def find_decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The model's blocks from the first to the last: the longest list of modules that text reaches and that stands in
    no other list, as a block's experts do."""
    is_reached = choose_text_names(model)
    lists = {name: one for name, one in model.named_modules() if isinstance(one, nn.ModuleList) and is_reached(name)}
    outer = [one for name, one in lists.items() if not any(name.startswith(f"{other}.") for other in lists)]
    return max(outer, key=len)


def list_quantizable_shapes(model: PreTrainedModel) -> list[LinearShape]:
    """The matrices that transformers would quantize: all but the head and what is tied to an embedding."""
    head = find_image_head(model.config)
    kept = get_keys_to_not_convert(model) if head is None else [head]
    shapes = [_read_shape(name, module) for name, module in find_linear_layers(model)]
    return [shape for shape in shapes if should_convert_module(shape.name, kept)]
