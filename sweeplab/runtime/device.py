"""Where a trial computes and in what precision: on this machine, or on one that a plan is for."""

from typing import NamedTuple

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


class PlannedDevice(NamedTuple):
    """Where a trial would run, and the dtype of its arithmetic."""

    kind: str  # cpu | cuda
    present: bool
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def plan_device(device: str, precision: str) -> PlannedDevice:
    """`auto` is the GPU where there is one; `cuda` is planned for where there is none, with bfloat16 for `auto`."""
    has_cuda = torch.cuda.is_available()
    kind = "cuda" if device == "cuda" or (device == "auto" and has_cuda) else "cpu"
    present = kind == "cpu" or has_cuda
    if precision == "auto" and not present:
        return PlannedDevice(kind, present, torch.bfloat16)
    return PlannedDevice(kind, present, resolve_precision(precision, torch.device(kind)))
