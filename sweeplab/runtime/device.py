"""Where a trial computes and in what precision: on this machine, or on one that a plan is for."""

from typing import Final, NamedTuple

import torch

from sweeplab.runtime.errors import ConfigError

# of a process on a GPU outside PyTorch's allocator, so no part of a peak: CUDA's context and kernels, cuBLAS; 0.3 to
# 0.6 GB by GPU and driver
CUDA_CONTEXT_BYTES: Final = 500_000_000
# set aside for it where workers share a GPU: the most of that, bitsandbytes' buffers, and room
CUDA_RESERVE_BYTES: Final = 1 << 30


def resolve_device(device: str) -> torch.device:
    """`auto` is the NVIDIA GPU where there is one. Raises `ConfigError` for a GPU that is not there.

    torch calls an AMD GPU `cuda`, too; quantization, memory and times were never tried on one.
    """
    is_amd = torch.version.hip is not None
    if device == "cuda" and is_amd:
        raise ConfigError(
            "executor.device=cuda is for NVIDIA, and this torch is for AMD (ROCm); use executor.device=cpu"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("executor.device=cuda needs a CUDA device, and torch sees none; use executor.device=cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() and not is_amd else "cpu")


def choose_kernels(device: torch.device) -> None:
    """What this process computes with on a GPU: no attention by cuDNN.

    From Hopper on torch may take cuDNN's attention first, which plans anew for every number of rows and columns, as a
    study has hundreds of; torch's flash kernel plans nothing. Products in 32 bits stay in 32 bits (no TF32), which is
    torch's default: adapters train in it, and a quicker sum would change results without a word.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)


def limit_memory(device: torch.device, share: float) -> int | None:
    """Keeps this process within its share of a GPU's memory, so that what a trial may need does not depend on the
    workers beside it. Returns the bytes that tensors may take; None where there is no limit."""
    if device.type != "cuda" or share == 1:
        return None
    total = torch.cuda.get_device_properties(device).total_memory
    limit = max(int(share * total) - CUDA_RESERVE_BYTES, 0)
    torch.cuda.set_per_process_memory_fraction(limit / total, device)
    return limit


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
    has_cuda = resolve_device("auto").type == "cuda"
    kind = "cuda" if device == "cuda" or (device == "auto" and has_cuda) else "cpu"
    present = kind == "cpu" or has_cuda
    if precision == "auto" and not present:
        return PlannedDevice(kind, present, torch.bfloat16)
    return PlannedDevice(kind, present, resolve_precision(precision, torch.device(kind)))
