"""A worker's processes where its model is on several devices, a rank each.

Rank 0 has the link to the driver. It starts the others and sends them what it receives, so that all run the same
trials. If one process ends, all do.
"""

import os
import socket
import sys
import threading
import time
from typing import Any, Final, NoReturn

from sweeplab.execution.link import LOOPBACK, Link, Message, invite_child
from sweeplab.execution.placement import VISIBLE, list_visible_gpus
from sweeplab.execution.supervisor import start_process, worker_program
from sweeplab.records.record import Status, TrialRecord
from sweeplab.runtime.errors import ConfigError

BROKEN: Final = 1  # exit code of a process that others wait for in vain
GRACE_SECONDS: Final = 1.0  # for the process that has the cause, where another one only lost its connection


class Reporter:
    """Sends what happens in this process to the driver, or from a later rank to rank 0. Any thread may report."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.is_silent = False  # a later rank's, but for its last message
        self.ended: set[int] = set()  # trials whose end was reported, which a driver receives once
        self.lock = threading.Lock()

    def report(self, kind: str, **content: Any) -> None:
        with self.lock:
            if kind == "ended":
                self.ended.add(content["record"]["number"])
            if not self.is_silent:
                self.link.send(kind, **content)

    def abort(self, kind: str, **content: Any) -> NoReturn:
        """The last message of a worker on several devices, and its end: no process can go on without the others."""
        with self.lock:
            if kind != "ended" or content["record"]["number"] not in self.ended:
                self.link.send(kind, **content)
            os._exit(BROKEN)

    def end_trial(self, record: TrialRecord, num_devices: int) -> None:
        """Reports a trial's end. One that failed may have failed in this process only: the worker ends with it."""
        if num_devices == 1 or record.status not in (Status.FAILED, Status.OUT_OF_MEMORY):
            self.report("ended", record=record.to_dict())
            return
        if record.status is Status.FAILED:
            time.sleep(GRACE_SECONDS)
        self.abort("ended", record=record.to_dict())


class RankProcess:
    """One more process of the worker, for one more device."""

    def __init__(self, rank: int, opening: Message, environment: dict[str, str], reporter: Reporter) -> None:
        self.link, invitation = invite_child()
        self.process = start_process(worker_program(), invitation, environment)
        self.reporter = reporter
        self.link.send(**(opening | {"rank": rank}))
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Its last message is this process's; without one this process ends as it did."""
        for message in self.link.messages():
            self.reporter.abort(**message)
        code = self.process.wait()
        print(f"process {self.process.pid} of this worker ended with {code}", file=sys.stderr, flush=True)
        if code < 0:
            os.kill(os.getpid(), -code)
        os._exit(code or BROKEN)


def choose_device_variables(opening: Message) -> list[dict[str, str]]:
    """What makes each process see one GPU, as the only one; nothing on a CPU. Raises `ConfigError`."""
    count = opening["num_devices"]
    gpus = [] if opening["executor"]["device"] == "cpu" else list_visible_gpus()
    if gpus and len(gpus) < count:
        raise ConfigError(
            f"training.num_devices must be at most the GPUs of a worker, got {count}, there are {len(gpus)}; use "
            "fewer, or give executor.gpus_per_worker as many"
        )
    return [{VISIBLE: gpu} for gpu in gpus[:count]] or [{}] * count


def start_ranks(opening: Message, reporter: Reporter) -> tuple[Message, list[RankProcess]]:
    """The opening with the port where the processes of this worker meet, and the others, which have begun to start.

    Before torch looks for devices. The port is on the loopback only, as gloo's own are.
    """
    first, *others = choose_device_variables(opening)
    listener = socket.create_server((LOOPBACK, 0))
    shared = opening | {"port": listener.getsockname()[1]}
    if sys.platform.startswith("linux"):
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ.update(first)
    ranks = [RankProcess(rank, shared | {"listener": None}, one, reporter) for rank, one in enumerate(others, 1)]
    return shared | {"listener": listener.detach()}, ranks
