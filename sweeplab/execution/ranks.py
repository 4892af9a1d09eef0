"""The processes of a worker whose model is on several devices: one process, or rank, for each device.

Rank 0 has the link to the driver. It starts the other ranks and forwards every message to them, so that all run the
same trials. If one process ends, all end.
"""

import os
import socket
import sys
import threading
import time
from typing import Any, Final, NoReturn

from sweeplab.execution.link import LOOPBACK, Link, Message, invite_child
from sweeplab.execution.placement import VISIBLE, list_visible_gpus
from sweeplab.execution.supervisor import list_worker_command, start_process
from sweeplab.records.record import Status, TrialRecord
from sweeplab.runtime.errors import ConfigError

_EXIT_CODE_BROKEN: Final = 1  # of a process that ends because another rank failed
_GRACE_SECONDS: Final = 1.0  # so that the rank with the cause reports before one that only lost its connection


class Reporter:
    """Sends messages of this process to the driver, or from a later rank to rank 0. Any thread may report."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.is_silent = False  # true in later ranks, which send only their last message
        self.ended: set[int] = set()  # trials whose end was reported, so that it is reported once only
        self.lock = threading.Lock()

    def report(self, kind: str, **content: Any) -> None:
        with self.lock:
            if kind == "ended":
                self.ended.add(content["record"]["number"])
            if not self.is_silent:
                self.link.send(kind, **content)

    def abort(self, kind: str, **content: Any) -> NoReturn:
        """Sends a last message and ends this process: with several devices, no rank can go on without the others."""
        with self.lock:
            if kind != "ended" or content["record"]["number"] not in self.ended:
                self.link.send(kind, **content)
            os._exit(_EXIT_CODE_BROKEN)

    def end_trial(self, record: TrialRecord, num_devices: int) -> None:
        """Reports the end of a trial. With several devices a failed trial ends the worker, too: it may have failed in
        this process only, while other ranks wait."""
        if num_devices == 1 or record.status not in (Status.FAILED, Status.OUT_OF_MEMORY):
            self.report("ended", record=record.to_dict())
            return
        if record.status is Status.FAILED:
            time.sleep(_GRACE_SECONDS)
        self.abort("ended", record=record.to_dict())


class RankProcess:
    """A rank other than 0, as rank 0 sees it."""

    def __init__(self, rank: int, opening: Message, environment: dict[str, str], reporter: Reporter) -> None:
        self.link, invitation = invite_child()
        self.process = start_process(list_worker_command(), invitation, environment)
        self.reporter = reporter
        self.link.send(**(opening | {"rank": rank}))
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Forwards the last message of the rank and ends this process; without a message, ends with its exit code."""
        for message in self.link.messages():
            self.reporter.abort(**message)
        code = self.process.wait()
        print(f"process {self.process.pid} of this worker ended with {code}", file=sys.stderr, flush=True)
        if code < 0:
            os.kill(os.getpid(), -code)
        os._exit(code or _EXIT_CODE_BROKEN)


def _choose_device_variables(opening: Message) -> list[dict[str, str]]:
    """Environment variables for each rank, which show it its own GPU only; none on a CPU. Raises `ConfigError`."""
    count = opening["num_devices"]
    gpus = [] if opening["executor"]["device"] == "cpu" else list_visible_gpus()
    if gpus and len(gpus) < count:
        raise ConfigError(
            f"training.num_devices must be at most the number of GPUs of a worker, {len(gpus)}, got {count}; use "
            f"fewer, or set executor.gpus_per_worker={count}"
        )
    return [{VISIBLE: gpu} for gpu in gpus[:count]] or [{}] * count


def start_ranks(opening: Message, reporter: Reporter) -> tuple[Message, list[RankProcess]]:
    """Starts the other ranks; returns the opening message with the port at which the ranks connect, and the ranks.

    To be called before torch looks for devices. The port is open on the loopback address only, as those of gloo
    and NCCL are.
    """
    first, *others = _choose_device_variables(opening)
    listener = socket.create_server((LOOPBACK, 0))
    shared = opening | {"port": listener.getsockname()[1]}
    if sys.platform.startswith("linux"):
        os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    os.environ.update(first)
    ranks = [RankProcess(rank, shared | {"listener": None}, one, reporter) for rank, one in enumerate(others, 1)]
    return shared | {"listener": listener.detach()}, ranks
