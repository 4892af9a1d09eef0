"""Lets autograd take fake CUDA tensors in a build of torch without CUDA.

Before a backward runs, autograd asks the device's guard for a stream, and the device's hooks whether there is such a
device. A build without CUDA has no guard and hooks that say no. FakeTensorMode puts torch's own empty guard in the
place of one without devices, so it is given one; the hooks' answers are changed within `cuda_for_autograd` only.
"""

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

_HOME: Final = Path(torch.__file__).parent
_CUDA: Final = 1  # c10/core/DeviceType.h
_NUM_ENTRIES: Final = 64  # of the table of virtual functions; more than are asked
_ANSWERS: Final = {"isBuilt": 1, "isAvailable": 1, "hasPrimaryContext": 0, "deviceCount": 1, "getCurrentDevice": 0}
_Answer: Final = ctypes.CFUNCTYPE(ctypes.c_int8, ctypes.c_void_p)
_YES: Final = _Answer(lambda _: 1)
_NO: Final = _Answer(lambda _: 0)


def _address(answer: Any) -> int:
    return int(ctypes.cast(answer, ctypes.c_void_p).value or 0)


@cache
def _list_virtual_functions() -> list[str]:
    """The table of virtual functions of the hooks: two destructors, then what the header declares, in its order."""
    header = (_HOME / "include/ATen/detail/AcceleratorHooksInterface.h").read_text()
    return ["~", "~", *re.findall(r"^  virtual [^~;{]*?(\w+)\(", header, re.MULTILINE)]


@cache
def _set_guard() -> None:
    """Registers a guard that says it has no device; the first FakeTensorMode replaces it by torch's own.

    It stays to the end of the process: nothing asks it but tensors of device cuda.
    """
    library = ctypes.CDLL(str(_HOME / "lib/libc10.so"))
    registry = (ctypes.c_void_p * (_CUDA + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    if registry[_CUDA]:
        return  # a build with CUDA
    table = (ctypes.c_void_p * _NUM_ENTRIES)(*[_address(_NO)] * _NUM_ENTRIES)
    guard = (ctypes.c_void_p * 1)(ctypes.addressof(table))
    registry[_CUDA] = ctypes.addressof(guard)
    torch._C._ensureCUDADeviceGuardSet()
    assert registry[_CUDA] != ctypes.addressof(guard)


@contextmanager
def cuda_for_autograd() -> Iterator[None]:
    """Within it a backward through fake CUDA tensors runs, on this thread."""
    _set_guard()
    library = ctypes.CDLL(str(_HOME / "lib/libtorch_cpu.so"))
    get_hooks = library._ZN2at6detail12getCUDAHooksEv
    get_hooks.restype = ctypes.c_void_p
    pointer = ctypes.c_void_p.from_address(get_hooks())
    before = pointer.value
    assert before is not None
    names = _list_virtual_functions()
    table = (ctypes.c_void_p * _NUM_ENTRIES)(*(ctypes.c_void_p * _NUM_ENTRIES).from_address(before))
    for name, answer in _ANSWERS.items():
        table[names.index(name)] = _address(_YES if answer else _NO)
    pointer.value = ctypes.addressof(table)
    try:
        with torch.autograd.set_multithreading_enabled(False):
            yield
    finally:
        pointer.value = before
