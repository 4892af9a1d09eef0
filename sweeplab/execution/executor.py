"""Runs cohorts in worker processes, and what all executors have in common."""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from sweeplab.execution.messages import Message, line_of, receive
from sweeplab.execution.placement import VISIBLE, Place
from sweeplab.execution.process import Link, ProcessLink, call_of
from sweeplab.records.record import Status
from sweeplab.records.store import make_folder
from sweeplab.runtime.paths import abbreviate_home_in_text


class Event(NamedTuple):
    """What worker number `worker` says: a message; `ready`; or that it `died`, with `status` and `reason` for its
    trials, and `taken`, True where they are not to blame for it."""

    worker: int
    message: Message


class Executor(Protocol):
    """What the driver needs of whatever runs cohorts. Each worker has one cohort at a time."""

    @property
    def num_workers(self) -> int: ...

    def is_ready(self, worker: int) -> bool:
        """False for a worker that waits for a machine; `ready` says when it has one."""

    def submit(self, worker: int, specs: list[Message]) -> None:
        """Starts a cohort on a worker that is ready and has none; its events end with `done` or `died`."""

    def join(self, worker: int, specs: list[Message]) -> None:
        """What takes the place of a trial that has `ended`: owed once for each, also where there is nothing."""

    def verdict(self, worker: int, why: str | None) -> None:
        """None where the trial whose held-out loss the worker told goes on, else why not; owed where a pruner is on."""

    def next_event(self) -> Event:
        """Waits for what any worker says next."""

    def restart(self, worker: int) -> None:
        """A fresh worker for one that died."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every worker: what they have not reported is run again later."""


class Worker:
    """One worker, and the thread that hears it."""

    def __init__(self, number: int, link: Link, opening: str, log: Path, events: "queue.Queue[Event]") -> None:
        self.number = number
        self.link = link
        self.log = log
        self.events = events
        self.busy = False
        self.heard_at = time.monotonic()
        self.killed_for: tuple[Status, str] | None = None
        self.stopped = False
        link.tell(opening)
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def tell(self, kind: str, **content: object) -> None:
        self.link.tell(line_of(kind, **content))

    def listen(self) -> None:
        for line in self.link.lines():
            self.heard_at = time.monotonic()
            message = self.received(line)
            if message["kind"] == "done":
                self.busy = False
            if message["kind"] == "gone":
                message = self.death(message)
            if message["kind"] != "alive" and not (self.stopped and message["kind"] == "died"):
                self.events.put(Event(self.number, message))

    def received(self, line: str) -> Message:
        """A worker that says what is no message is ended; `gone` follows."""
        try:
            return receive(line)
        except ValueError:
            self.kill(Status.FAILED, f"it said what is no message: {line[:100]!r}")
            return {"kind": "alive"}

    def death(self, gone: Message) -> Message:
        """How it ended, for the records of its trials."""
        status, how = self.killed_for or (Status.FAILED, gone["how"])
        return {
            "kind": "died",
            "status": status.value,
            "reason": abbreviate_home_in_text(f"{how}; see {self.log}"),
            "taken": gone["taken"],
        }

    def kill(self, status: Status, why: str) -> None:
        self.killed_for = status, why
        self.link.kill()

    def kill_if_stalled(self, seconds: float) -> None:
        """A worker that works and has been silent for `seconds` hangs."""
        if self.busy and self.killed_for is None and time.monotonic() - self.heard_at > seconds:
            self.kill(Status.TIMED_OUT, f"no forward pass for executor.stall_seconds={seconds:g}")

    def stop(self) -> None:
        """What it has not reported is run again later."""
        self.stopped = True
        self.link.close()
        self.listener.join()


class Workers:
    """Workers over links of any kind: all that executors do alike. `connect` makes the link of a worker, by number."""

    def __init__(self, places: list[Place], pruning: bool, folder: Path, connect: Callable[[int], Link]) -> None:
        self.places = places
        self.pruning = pruning
        self.folder = folder
        self.connect = connect
        self.events: queue.Queue[Event] = queue.Queue()
        self.looked_at = time.monotonic()  # whether one of them hangs
        self.workers = [self.start(number) for number in range(len(places))]

    @property
    def num_workers(self) -> int:
        return len(self.places)

    def log(self, number: int) -> Path:
        return self.folder / f"worker-{number}.log"

    def start(self, number: int) -> Worker:
        """Raises `StoreError`."""
        place = self.places[number]
        opening = line_of(
            "open", executor=place.executor.to_dict(), pruning=self.pruning, num_devices=place.num_devices, rank=0
        )
        return Worker(number, self.connect(number), opening, self.log(number), self.events)

    def is_ready(self, worker: int) -> bool:
        return self.workers[worker].link.is_ready()

    def submit(self, worker: int, specs: list[Message]) -> None:
        one = self.workers[worker]
        one.busy, one.heard_at = True, time.monotonic()
        one.tell("cohort", specs=specs)

    def join(self, worker: int, specs: list[Message]) -> None:
        self.workers[worker].tell("join", specs=specs)

    def verdict(self, worker: int, why: str | None) -> None:
        self.workers[worker].tell("verdict", why=why)

    def next_event(self) -> Event:
        """Replaces nothing: a worker that hangs is killed, and says `died` like any other."""
        seconds = self.places[0].executor.stall_seconds
        if seconds is None:
            return self.events.get()
        patience = min(seconds / 4, 5.0)
        while True:
            if time.monotonic() - self.looked_at >= patience:  # also while others talk
                self.looked_at = time.monotonic()
                for worker in self.workers:
                    worker.kill_if_stalled(seconds)
            with suppress(queue.Empty):
                return self.events.get(timeout=patience)

    def restart(self, worker: int) -> None:
        self.workers[worker].stop()
        self.workers[worker] = self.start(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.stop()


class LocalExecutor(Workers):
    """Processes of this machine. They start importing at once, so open it before anything else that takes time."""

    def __init__(self, places: list[Place], pruning: bool, folder: Path) -> None:
        """Raises `StoreError`."""
        make_folder(folder)
        super().__init__(places, pruning, folder, self.on_this_machine)

    def on_this_machine(self, number: int) -> ProcessLink:
        gpu = self.places[number].gpu
        return ProcessLink(call_of(self.log(number), {} if gpu is None else {VISIBLE: gpu}))
