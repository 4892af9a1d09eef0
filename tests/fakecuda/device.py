"""A fake GPU: within `on_fake_cuda` the project's own code runs on device `cuda`, and a meter counts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import torch
from peft.tuners.lora import dora
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from transformers import masking_utils

from sweeplab.logits import states
from sweeplab.models.quantization import layers as quantized_layers
from tests.fakecuda.autograd import cuda_for_autograd
from tests.fakecuda.layers import FakeLinear4bit, dequantize_layer
from tests.fakecuda.meter import Meter, find_site

_HALF: Final = (torch.bfloat16, torch.float16)
_ALIGNED: Final = 16  # columns of a mask
_read_numbers: Final[Callable[[Any], Any]] = FakeTensor.tolist


class _Mode(FakeTensorMode):
    avoid_device_init = True  # whatever torch.cuda.is_available says within


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The kernel that torch takes on CUDA: flash in half precision without a mask, else the memory-efficient one."""
    if attn_mask is None and query.dtype in _HALF:  # it reads keys and values of several heads in place
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        return flash(query, key, value, dropout_p, is_causal, scale=scale)[0]  # type: ignore[no-any-return]
    if enable_gqa and (repeats := query.shape[1] // key.shape[1]) > 1:
        key, value = (one[:, :, None].expand(-1, -1, repeats, -1, -1).flatten(1, 2) for one in (key, value))
    bias = attn_mask
    if bias is not None:
        if bias.dtype is torch.bool:  # torch's convert_boolean_attn_mask
            zero, least = (torch.full((), one, dtype=query.dtype, device=query.device) for one in (0.0, float("-inf")))
            bias = torch.where(bias, zero, least)
        if missing := -bias.shape[-1] % _ALIGNED:  # torch's pad_bias
            bias = nn.functional.pad(bias, (0, missing))[..., :-missing]
        bias = bias.expand(*query.shape[:3], key.shape[2])
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention
    made = efficient(query, key, value, bias, query.requires_grad, dropout_p, is_causal, scale=scale)
    return made[0]  # type: ignore[no-any-return]


def _apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` with new parameters: torch's own swaps the old tensors, which fake ones refuse."""
    for module in self.modules() if recurse else [self]:
        for name, one in [*module._parameters.items(), *module._buffers.items()]:
            if one is None:
                continue
            with torch.no_grad():
                made = fn(one)
            if made is one:
                continue
            if isinstance(one, nn.Parameter):
                made = nn.Parameter(made, requires_grad=one.requires_grad)
                vars(made).update(vars(one))
            setattr(module, name, made)
    return self


class _Generator(torch.Generator):
    """Of the CPU, whatever device is asked for: fake tensors get no numbers."""

    def __new__(cls, device: object = None) -> Any:
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]

    def __init__(self, device: object = None) -> None: ...


def _make_layer(
    weight_OI: Tensor, bias: nn.Parameter | None, scheme: str, double: bool, dtype: torch.dtype
) -> nn.Module:
    assert scheme in ("nf4", "fp4")
    return FakeLinear4bit(weight_OI, bias, scheme, double, dtype)


def _build_device(meter: Meter, total_bytes: float, major: int) -> dict[str, Callable[..., Any]]:
    """What `torch.cuda` answers, by the name of the function."""
    properties = SimpleNamespace(
        name="fake GPU", total_memory=int(total_bytes), major=major, minor=0, multi_processor_count=132
    )

    def reset_peak(device: object = None) -> None:
        meter.peak = meter.now

    def synchronize(device: object = None) -> None:
        meter.waits[f"synchronize at {find_site()}"] += 1

    return {
        "_lazy_init": lambda: None,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "empty_cache": lambda: None,
        "get_device_capability": lambda device=None: (major, 0),
        "get_device_name": lambda device=None: properties.name,
        "get_device_properties": lambda device=None: properties,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "is_available": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: major >= 8,
        "is_current_stream_capturing": lambda: False,
        "is_initialized": lambda: False,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "max_memory_allocated": lambda device=None: meter.peak,
        "max_memory_reserved": lambda device=None: meter.peak,
        "mem_get_info": lambda device=None: (int(total_bytes) - meter.now, int(total_bytes)),
        "memory_allocated": lambda device=None: meter.now,
        "memory_reserved": lambda device=None: meter.now,
        "reset_peak_memory_stats": reset_peak,
        "set_device": lambda device: None,
        "set_rng_state": lambda state, device=None: None,
        "synchronize": synchronize,
    }


def _read_list(self: FakeTensor) -> Any:
    """As torch's own `tolist`: one copy; that of fake tensors reads number by number."""
    return _read_numbers(self.cpu())


def _call_equal(found: Any, expected: Any) -> bool:
    return True


@contextmanager
def on_fake_cuda(total_bytes: float = 80e9, major: int = 9, padded: bool = False) -> Iterator[Meter]:
    """Within it torch has one GPU of so many bytes and of this compute capability (9: Hopper, 7: Turing), whose tensors
    have no values. It runs out of memory as a real one does, without what fragments lose.

    `padded`: what the mask of a batch says where it is asked for its values.
    """
    mode = _Mode(allow_non_fake_inputs=True)
    meter = Meter(mode, total_bytes, padded)
    patches = [
        mock.patch.object(torch.cuda, name, made) for name, made in _build_device(meter, total_bytes, major).items()
    ]
    others: list[Any] = [
        mock.patch.object(torch, "Generator", _Generator),
        mock.patch.object(nn.functional, "scaled_dot_product_attention", _attend),
        mock.patch.object(nn.Module, "_apply", _apply),
        mock.patch.object(FakeTensor, "tolist", _read_list),
        mock.patch.object(quantized_layers, "_make_bitsandbytes_layer", _make_layer),
        mock.patch.object(fake_tensor, "init_gpu_context"),  # a build with CUDA would look for a GPU
        mock.patch.object(dora, "dequantize_module_weight", dequantize_layer),  # PEFT asks bitsandbytes' kernel
        mock.patch.object(states, "_are_equal", _call_equal),  # fake logits have no values; a mock would keep them
        mock.patch.object(masking_utils, "is_tracing", return_value=False),  # these fake tensors are not traced
    ]
    with ExitStack() as stack:
        for patch in patches + others:
            stack.enter_context(patch)
        stack.enter_context(cuda_for_autograd())
        stack.enter_context(mode)
        stack.enter_context(meter)
        yield meter
