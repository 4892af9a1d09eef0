"""Counts what a GPU would do: bytes that stand, kernels launched, and where the host waits for the device."""

import traceback
import weakref
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, UntypedStorage
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_HERE: Final = str(Path(__file__).parent)
_BLOCK: Final = 512  # bytes; what CUDA's caching allocator rounds up to
_NO_KERNEL: Final = {
    "alias",
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "lift",
    "lift_fresh",
    "new_empty",
    "new_empty_strided",
    "resize_",
    "set_",
    "_reshape_alias",
    "_unsafe_view",
}
_COPIES: Final = {"_to_copy", "copy_", "copy", "_copy_from"}
_BY_MASK: Final = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
_SHAPED_BY_VALUES: Final = {"nonzero", "masked_select", "_unique2", "bincount"}


_PRODUCTS: Final = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}  # by name: which argument is the left matrix


class Operation(NamedTuple):
    """What a launch costs: the bytes that it reads and writes, and its additions and multiplications of products."""

    num_bytes: int
    flops: float
    half: bool  # its result is in half precision


def _count_flops(name: str, func: Any, args: Any, kwargs: Any, made: Any) -> float:
    """Of products and of attention; what else is done to each number takes less time than its bytes."""
    plain = name.rstrip("_")
    if plain in _PRODUCTS:
        return float(2 * made.numel() * args[_PRODUCTS[plain]].shape[-1])
    count = flop_registry.get(func._overloadpacket) if "attention" in name else None
    return 0.0 if count is None else float(count(*args, **kwargs, out_val=made))


def is_on_cuda(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cuda"


def find_site() -> str:
    """The innermost line of sweeplab that is being run, or of any library but torch where there is none."""
    others = "no line of Python"
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(_HERE) or "/torch/" in frame.filename:
            continue
        short = f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}"
        if "/sweeplab/" in frame.filename and "site-packages" not in frame.filename:
            return short
        others = short if others == "no line of Python" else others
    return others


class Meter(TorchDispatchMode):
    """Sees every operation. Those on CPU tensors compute; those on CUDA tensors give fake tensors, and are counted.

    Args:
        mode: makes the fake tensors; it is entered before this.
        limit: bytes that the device has; None: any number.
        padded: what a look at values says of a mask: that not every entry is true.
    """

    def __init__(self, mode: FakeTensorMode, limit: float | None = None, padded: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mode = mode
        self.limit = limit
        self.padded = padded
        self.now = self.peak = 0  # bytes
        self.num_out_of_memory = 0
        self.fails_at: Any = None  # called with bytes before they are given out; may raise
        self.standing: dict[int, int] = {}  # storages by address: bytes
        self.launches: Counter[str] = Counter()
        self.operations: Counter[Operation] = Counter()  # those of `launches`, by cost
        self.waits: Counter[str] = Counter()  # of the host for the device, by what made it wait and the line

    def reset(self) -> None:
        """Forgets what was launched and waited for; the peak is what stands now."""
        self.launches.clear()
        self.operations.clear()
        self.waits.clear()
        self.peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        device = kwargs.get("device")
        if not any(isinstance(one, FakeTensor) for one in tensors) and not (device and device.type == "cuda"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        answer = self._answer_by_values(name, args, tensors)
        if answer is not None:
            return answer
        made = func(*self._make_fake(args), **kwargs)
        results = [one for one in tree_leaves(made) if isinstance(one, Tensor)]
        self._add_storages(results)
        if name in _COPIES:
            non_blocking = kwargs.get("non_blocking", args[2] if name == "copy_" and len(args) > 2 else False)
            self._count_copy(tensors[0] if name == "_to_copy" else tensors[-1], results[0], bool(non_blocking))
        if any(map(is_on_cuda, results)) and name not in _NO_KERNEL and not func.is_view:
            self.launches[name] += 1
            moved = {id(one): one.nbytes for one in (*tensors, *results)}  # what is changed in place: once
            flops = _count_flops(name, func, args, kwargs, made)
            half = results[0].dtype in (torch.bfloat16, torch.float16)
            self.operations[Operation(sum(moved.values()), flops, half)] += 1
        return made

    def _make_fake(self, args: Any) -> Any:
        """The arguments with fake tensors in the place of those of the CPU, so that both kinds go together."""
        return tuple(
            self.mode.from_tensor(one) if isinstance(one, Tensor) and not isinstance(one, FakeTensor) else one
            for one in args
        )

    def _answer_by_values(self, name: str, args: Any, tensors: list[Tensor]) -> Any:
        """What operations give for which the host must read values, with the wait counted; None for all others.

        A result of unknown size is as large as it can be.
        """
        if name == "_local_scalar_dense":
            self.wait("item", tensors)
            dtype = tensors[0].dtype
            return (not self.padded) if dtype is torch.bool else 1.0 if dtype.is_floating_point else 1
        if name == "equal":
            self.wait(name, tensors)
            return False
        if name == "nonzero":
            self.wait(name, tensors)
            self.launches[name] += 3
            found = tensors[0].new_empty((tensors[0].numel(), tensors[0].dim()), dtype=torch.long)
            self._add_storages([found])
            return found
        if name in _BY_MASK and any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1]):
            self.wait(f"{name} by a mask", tensors)
            self.launches[name] += 4
            if "put" in name:
                return args[0]
            (mask,) = args[1]
            chosen = args[0].new_empty((mask.numel(), *args[0].shape[mask.dim() :]))
            self._add_storages([chosen])
            return chosen
        if name in _SHAPED_BY_VALUES:
            self.wait(name, tensors)
        return None

    def _count_copy(self, source: Tensor, target: Tensor, non_blocking: bool) -> None:
        """To memory that is not pinned the host waits in any case; from it, until the bytes are taken."""
        if is_on_cuda(source) and not is_on_cuda(target):
            self.wait("copy to the CPU", [source])
        elif is_on_cuda(target) and not is_on_cuda(source) and not non_blocking:
            self.wait("copy from the CPU", [target])

    def wait(self, kind: str, tensors: list[Tensor]) -> None:
        """Counts a wait of the host, where any of the tensors is on the device."""
        if any(map(is_on_cuda, tensors)):
            self.waits[f"{kind} at {find_site()}"] += 1

    def _add_storages(self, tensors: Iterable[Tensor]) -> None:
        for one in tensors:
            if is_on_cuda(one):
                self._add_storage(one.untyped_storage())

    def _add_storage(self, storage: UntypedStorage) -> None:
        """Counts the bytes of a storage until it is freed. Raises `OutOfMemoryError` over the limit."""
        place = storage._cdata
        if place in self.standing:
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK
        if self.fails_at is not None:
            self.fails_at(size)
        if self.limit is not None and self.now + size > self.limit:
            self.num_out_of_memory += 1
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB; {self.now / 1e9:.2f} GB of "
                f"{self.limit / 1e9:.2f} GB stand"
            )
        self.standing[place] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove_storage, place, size)

    def _remove_storage(self, place: int, size: int) -> None:
        if self.standing.pop(place, None) is not None:
            self.now -= size
