"""A worker's processes where its model is on several devices: the first one hears the driver and speaks to it, and the
others are its children, hear what it hears, and run the same trials. If one ends, all do."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Final, NoReturn, TextIO

from sweeplab.execution.link import LOOPBACK
from sweeplab.execution.messages import Message, line_of, receive, send
from sweeplab.execution.placement import VISIBLE, visible_gpus
from sweeplab.records.record import Status, TrialRecord
from sweeplab.runtime.errors import ConfigError

BROKEN: Final = 1  # exit code of a process that others wait for in vain
GRACE_SECONDS: Final = 1.0  # for the process that has the cause, where another one only lost its connection


class Voice:
    """What this process says to the driver, or as a child to its parent. Any thread may speak."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.silent = False  # a child's, but for its last word
        self.ended: set[int] = set()  # trials whose end was told, which a driver hears once
        self.lock = threading.Lock()

    def say(self, kind: str, **content: Any) -> None:
        with self.lock:
            if kind == "ended":
                self.ended.add(content["record"]["number"])
            if not self.silent:
                send(self.out, kind, **content)

    def break_off(self, kind: str, **content: Any) -> NoReturn:
        """The last word of a worker on several devices, and its end: no process can go on without the others."""
        with self.lock:
            if kind != "ended" or content["record"]["number"] not in self.ended:
                send(self.out, kind, **content)
            os._exit(BROKEN)

    def end(self, record: TrialRecord, num_devices: int) -> None:
        """Tells a trial's end. One that failed may have failed here alone: the worker ends with it."""
        if num_devices == 1 or record.status not in (Status.FAILED, Status.OUT_OF_MEMORY):
            self.say("ended", record=record.to_dict())
            return
        if record.status is Status.FAILED:
            time.sleep(GRACE_SECONDS)
        self.break_off("ended", record=record.to_dict())


class Sibling:
    """One more process of the worker, for one more device."""

    def __init__(self, rank: int, opening: Message, environment: dict[str, str], voice: Voice) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sweeplab.execution.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.voice = voice
        self.tell(line_of(**(opening | {"rank": rank})))
        threading.Thread(target=self.listen, daemon=True).start()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died, which `listen` hears
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def listen(self) -> None:
        """Its last word is this process's; without one this process ends as it did."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.voice.break_off(**receive(line))
        code = self.process.wait()
        print(f"process {self.process.pid} of this worker ended with {code}", file=sys.stderr, flush=True)
        if code < 0:
            os.kill(os.getpid(), -code)
        os._exit(code or BROKEN)


def device_variables(opening: Message) -> list[dict[str, str]]:
    """What makes each process see one GPU, as the only one; nothing on a CPU. Raises `ConfigError`."""
    count = opening["num_devices"]
    gpus = [] if opening["executor"]["device"] == "cpu" else visible_gpus()
    if gpus and len(gpus) < count:
        raise ConfigError(
            f"training.num_devices must be at most the GPUs of a worker, got {count}, there are {len(gpus)}; use "
            "fewer, or give executor.gpus_per_worker as many"
        )
    return [{VISIBLE: gpu} for gpu in gpus[:count]] or [{}] * count


def gather(opening: Message, voice: Voice) -> tuple[Message, list[Sibling]]:
    """The opening with the port where the processes of this worker meet, and the others, which have begun to start.

    Before torch looks for devices. The port is the loopback's alone, as gloo's own are.
    """
    first, *others = device_variables(opening)
    listener = socket.create_server((LOOPBACK, 0))
    told = opening | {"port": listener.getsockname()[1]}
    if sys.platform.startswith("linux"):
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    os.environ.update(first)
    siblings = [Sibling(rank, told | {"listener": None}, one, voice) for rank, one in enumerate(others, 1)]
    return told | {"listener": listener.detach()}, siblings
