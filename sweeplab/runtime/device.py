"""Where a trial computes and in what precision."""

import torch

from sweeplab.runtime.errors import ConfigError


def resolve_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises `ConfigError` for a GPU that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("executor.device=cuda needs a CUDA device, and torch sees none; use executor.device=cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """dtype of the arithmetic; auto is bfloat16 on a GPU that has it, else float32 (a CPU's bfloat16 is slower)."""
    if precision != "auto":
        dtype = getattr(torch, precision)
        assert isinstance(dtype, torch.dtype)
        return dtype
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bfloat16 else torch.float32
