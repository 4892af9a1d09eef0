"""The processes that divide the rows of a micro-batch among their devices, and how they exchange numbers."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

_LOOPBACK: Final = "127.0.0.1"


class Ranks(NamedTuple):
    """This process's place among `size` that run the same trials step by step, each on its own share of the rows."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_first(self) -> bool:
        """True for the one that writes files and measures time."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """This process's rows of a trial's micro-batch, which has as many for each process."""
        return slice(self.rank, None, self.size)

    def round_up_rows(self, num_rows: int) -> int:
        """The smallest number from `num_rows` on that gives each process as many rows."""
        return -(-num_rows // self.size) * self.size

    def sum_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Every tensor becomes the sum of all processes' own, the same bits in each; one message for each dtype."""
        if self.size == 1:
            return
        for dtype in dict.fromkeys(one.dtype for one in tensors):
            same = [one for one in tensors if one.dtype is dtype]
            flat = torch.cat([one.reshape(-1) for one in same])
            dist.all_reduce(flat)
            for one, part in zip(same, flat.split([one.numel() for one in same]), strict=True):
                one.copy_(part.view_as(one))

    def broadcast_first(self, value: float) -> float:
        """The first process's value in every process, for values that differ between them, such as times."""
        if self.size == 1:
            return value
        first = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(first, 0)
        return first.item()


ONE_PROCESS: Final = Ranks()  # one process that has all rows


def join_process_group(rank: int, size: int, port: int, listener: int | None, device: torch.device) -> Ranks:
    """Waits for the other processes of this machine. Only the loopback is listened on; the first one has the socket of
    `port` open as `listener`."""
    store = dist.TCPStore(  # type: ignore[attr-defined]  # torch's list of its public names lacks it
        _LOOPBACK, port, size, is_master=listener is not None, wait_for_workers=False, master_listen_fd=listener
    )
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=size)
    return Ranks(rank, size, device)
