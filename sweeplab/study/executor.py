"""Runs cohorts in worker processes on this machine."""

import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Protocol, Self

from sweeplab.records import Status
from sweeplab.store import StoreError, make_folder
from sweeplab.study.messages import Message, receive, send
from sweeplab.study.places import VISIBLE, Place


class Event(NamedTuple):
    """What worker number `worker` says: a message, or that it `died`, with `status` and `reason` for its trials."""

    worker: int
    message: Message


class Executor(Protocol):
    """What the driver needs of whatever runs cohorts. Each worker has one cohort at a time."""

    @property
    def num_workers(self) -> int: ...

    def submit(self, worker: int, specs: list[Message]) -> None:
        """Starts a cohort on a worker that has none; its events end with `done` or `died`."""

    def join(self, worker: int, specs: list[Message]) -> None:
        """What takes the place of a trial that has `ended`: owed once for each, also where there is nothing."""

    def verdict(self, worker: int, why: str | None) -> None:
        """None where the trial whose held-out loss the worker told goes on, else why not; owed where a pruner is on."""

    def next_event(self) -> Event:
        """Waits for what any worker says next."""

    def restart(self, worker: int) -> None:
        """A fresh worker for one that died."""


def open_log(path: Path) -> IO[str]:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}; choose another study.runs_dir") from error


class Worker:
    """One process, and the thread that hears it."""

    def __init__(self, number: int, place: Place, pruning: bool, log: Path, events: "queue.Queue[Event]") -> None:
        """In a session of its own, so that Ctrl-C reaches the driver alone. Raises `StoreError`."""
        self.number = number
        self.log = log
        self.events = events
        self.busy = False
        self.heard_at = time.monotonic()
        self.stalled: str | None = None
        self.stopped = False
        make_folder(log.parent)
        device = {} if place.gpu is None else {VISIBLE: place.gpu}
        with open_log(log) as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sweeplab.study.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
                env={**os.environ, **device},
            )
        self.tell("open", executor=asdict(place.executor), pruning=pruning)
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def tell(self, kind: str, **content: object) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died; `listen` tells how
            send(self.process.stdin, kind, **content)

    def listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # it died in the middle of a message
                self.heard_at = time.monotonic()
                message = receive(line)
                if message["kind"] == "done":
                    self.busy = False
                if message["kind"] != "alive":
                    self.events.put(Event(self.number, message))
        code = self.process.wait()
        if not self.stopped:
            self.events.put(Event(self.number, self.death(code)))

    def death(self, code: int) -> Message:
        """How it ended, for the records of its trials."""
        if self.stalled is not None:
            return {"kind": "died", "status": Status.TIMED_OUT.value, "reason": f"{self.stalled}; see {self.log}"}
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if code == -9:
            how += ", as the system ends what takes its last memory"
        reason = f"the worker process ended with {how}; see {self.log}"
        return {"kind": "died", "status": Status.FAILED.value, "reason": reason}

    def kill_if_stalled(self, seconds: float) -> None:
        """A worker that works and has been silent for `seconds` hangs."""
        if self.busy and self.stalled is None and time.monotonic() - self.heard_at > seconds:
            self.stalled = f"no forward pass for executor.stall_seconds={seconds:g}"
            self.process.kill()

    def stop(self) -> None:
        """Kills the process, and waits until its memory is free: what it has not reported is run again later."""
        self.stopped = True
        self.process.kill()
        self.process.wait()
        self.listener.join()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()


class LocalExecutor:
    """Worker processes. They start importing at once, so open it before anything else that takes time."""

    def __init__(self, places: list[Place], pruning: bool, folder: Path) -> None:
        self.places = places
        self.pruning = pruning
        self.folder = folder
        self.events: queue.Queue[Event] = queue.Queue()
        self.workers = [self.start(number) for number in range(len(places))]

    @property
    def num_workers(self) -> int:
        return len(self.places)

    def start(self, number: int) -> Worker:
        """Raises `StoreError`."""
        log = self.folder / f"worker-{number}.log"
        return Worker(number, self.places[number], self.pruning, log, self.events)

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
        while True:
            with suppress(queue.Empty):
                return self.events.get(timeout=None if seconds is None else min(seconds / 4, 5.0))
            assert seconds is not None
            for worker in self.workers:
                worker.kill_if_stalled(seconds)

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
