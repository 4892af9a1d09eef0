"""A frozen base sharded over devices (FSDP2): each holds a part of every weight and gathers a layer to compute it."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sweeplab.models.layers import find_decoder_layers
from sweeplab.runtime.process_group import Ranks

_READ_BY_PEFT: Final = ("compress_statistics", "quant_type")  # attributes of a 4-bit weight


def _store_as_plain_tensor(layer: Any, device: torch.device) -> dict[str, Any]:
    """Replaces the weight of a 4-bit layer by a plain parameter with the same packed bytes, which can be sharded.

    bitsandbytes' own class holds the scales too, and they cannot be split: they move to the layer, whole, on `device`.
    Returns the attributes of the old weight that PEFT reads, by name.
    """
    packed = layer.weight
    attributes = {name: getattr(packed, name) for name in _READ_BY_PEFT}
    layer.quant_state = packed.quant_state
    layer.quant_state.to(device)
    layer.weight = nn.Parameter(packed.data.as_subclass(Tensor), requires_grad=False)
    return attributes


def _make_frozen(data: Tensor, requires_grad: bool = False) -> nn.Parameter:
    """torch 2.11 lets a part have gradients and then takes them away, which packed bytes refuse."""
    return nn.Parameter(data, requires_grad)


@contextmanager
def _frozen_parts() -> Iterator[None]:
    """Within it what `fully_shard` makes of a frozen base's weights is frozen from the beginning."""
    from torch.distributed.fsdp._fully_shard import _fsdp_param

    module: Any = _fsdp_param
    before = module.nn
    module.nn = SimpleNamespace(**{**vars(before), "Parameter": _make_frozen})
    try:
        yield
    finally:
        module.nn = before


def shard_base(model: PreTrainedModel, ranks: Ranks) -> None:
    """Shards the frozen `model` in place over `ranks` with torch's FSDP2 (`fully_shard`).

    There is one group for each decoder layer, and one for embedding, last norm and head; that last one stays gathered
    from the forward to the end of the backward. Layers go to the device one at a time, so a base that was loaded on
    the CPU never has to fit on the device whole. The packed bytes of nf4 and fp4 are sharded as they are: FSDP2
    accepts several dtypes in a group, FSDP1 (which PEFT's documentation describes) needs one. Their scales, 0.127 to
    0.5 bits per weight, are whole on every device. The base has no gradients, so nothing is reduced; the adapters are
    whole on every device.
    """
    from bitsandbytes.nn.modules import Linear4bit
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    layers = [one for one in model.modules() if isinstance(one, Linear4bit)]
    attributes = [_store_as_plain_tensor(layer, ranks.device) for layer in layers]
    mesh = init_device_mesh(ranks.device.type, (ranks.size,))
    with _frozen_parts():
        for block in find_decoder_layers(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    for layer, values in zip(layers, attributes, strict=True):
        vars(layer.weight).update(values)


def free_gathered_weights(model: nn.Module) -> None:
    """Frees the weights that a forward gathered on each device, where `model` is sharded.

    To be called before work that not all devices do: a device that moves the model would free and gather weights while
    the others do not, and wait for them forever.
    """
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.reshard()
