"""A frozen base in parts: every device keeps its share of each weight, and puts a layer together while it computes."""

from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sweeplab.models.layers import find_decoder_layers
from sweeplab.runtime.process_group import Ranks

ASKED_BY_PEFT: Final = ("compress_statistics", "quant_type")  # of a 4-bit weight


def plain_weight(layer: Any, device: torch.device) -> dict[str, Any]:
    """Takes a 4-bit layer's packed bytes out of bitsandbytes' own class, which holds what a part of them cannot: the
    scales go to the layer, whole and on `device`. What PEFT asks of such a weight, by name."""
    packed = layer.weight
    asked = {name: getattr(packed, name) for name in ASKED_BY_PEFT}
    layer.quant_state = packed.quant_state
    layer.quant_state.to(device)
    layer.weight = nn.Parameter(packed.data.as_subclass(Tensor), requires_grad=False)
    return asked


def shard(model: PreTrainedModel, ranks: Ranks) -> None:
    """Shards the frozen `model`, in place, over `ranks` (torch's FSDP2, `fully_shard`): a group for each layer, and one
    for the embedding, the last norm and the head, which stands whole from a forward to the end of its backward.

    A whole layer at a time passes through the device, so a base on the CPU needs no room for all of itself there. Bytes
    of nf4 and fp4 stay bytes: FSDP2 takes groups of several dtypes, where FSDP1, of which PEFT's documentation is, has
    one flat tensor of one dtype. Their scales, 0.127 to 0.5 bits a weight, are whole on every device. Nothing of the
    base has a gradient, so nothing is reduced; what trains stands beside it and is whole on every device too.
    """
    from bitsandbytes.nn.modules import Linear4bit
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    layers = [one for one in model.modules() if isinstance(one, Linear4bit)]
    asked = [plain_weight(layer, ranks.device) for layer in layers]
    mesh = init_device_mesh(ranks.device.type, (ranks.size,))
    for block in find_decoder_layers(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for layer, answers in zip(layers, asked, strict=True):
        vars(layer.weight).update(answers)


def take_apart(model: nn.Module) -> None:
    """Leaves every device with its parts alone, where `model` is in parts: what a forward put together stays otherwise.

    Before something that only some of them do: whoever moves the model takes it apart, and then puts it together again
    while the others do not.
    """
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.reshard()
