"""The device that a plan is for, which need not be here."""

from typing import NamedTuple

import torch

from sweeplab.runtime.device import resolve_precision


class PlannedDevice(NamedTuple):
    """Where a trial would run, and the dtype of its arithmetic."""

    kind: str  # cpu | cuda
    present: bool
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def planned_device(device: str, precision: str) -> PlannedDevice:
    """`auto` is the GPU where there is one; `cuda` is planned for where there is none, with bfloat16 for `auto`."""
    has_cuda = torch.cuda.is_available()
    kind = "cuda" if device == "cuda" or (device == "auto" and has_cuda) else "cpu"
    present = kind == "cpu" or has_cuda
    if precision == "auto" and not present:
        return PlannedDevice(kind, present, torch.bfloat16)
    return PlannedDevice(kind, present, resolve_precision(precision, torch.device(kind)))
