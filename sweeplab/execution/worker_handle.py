"""The driver's side of one worker: the links to it and to its supervisor, and how it ended."""

import queue
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from sweeplab.execution.link import InvalidMessage, Link, Message, Reception
from sweeplab.execution.supervisor import Call, Ending
from sweeplab.records.record import Status
from sweeplab.runtime.errors import to_line

_EXIT_SECONDS: Final = 5.0  # a worker that has closed its link may take so long to end
_STOP_SECONDS: Final = 10.0  # the supervisor may take so long to end the worker, before the launcher cancels its job


class Event(NamedTuple):
    """A message of worker number `worker`, or one about it: `ready`, or `died`, with `status` and `reason` for the
    records of its trials, and `taken`, true where its machine was taken away."""

    worker: int
    message: Message


class Job(Protocol):
    """A supervisor that a launcher has started, or that waits for a machine."""

    def explain_loss(self) -> Ending:
        """How it ended, as the launcher knows it; called where the supervisor itself did not report that."""

    def cancel(self) -> None:
        """Ends it, whether it runs or still waits."""


class WorkerHandle:
    """One worker: the link to it, the link to its supervisor, and a thread that receives from each."""

    def __init__(
        self, number: int, call: Call, job: Job, reception: Reception, opening: Message, events: "queue.Queue[Event]"
    ) -> None:
        self.number = number
        self.call = call
        self.job = job
        self.opening = opening
        self.events = events
        self.link: Link | None = None
        self.supervisor: Link | None = None
        self.lock = threading.Lock()
        self.ending = Ending("")
        self.is_busy = False
        self.is_stopped = False
        self.received_at = time.monotonic()
        self.killed_for: tuple[Status, str] | None = None
        self.links, self.supervisors = reception.links_of(call.worker), reception.links_of(call.supervisor)
        first = self.links.get_nowait() if call.worker.descriptor is not None else None
        if first is not None:
            self._open(first)
        self.threads = [
            threading.Thread(target=self._watch_supervisor, daemon=True),
            threading.Thread(target=self._receive, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    @property
    def is_ready(self) -> bool:
        return self.link is not None

    def send(self, kind: str, **content: object) -> None:
        link = self.link
        if link is not None:
            link.send(kind, **content)

    def _open(self, link: Link) -> None:
        link.send("open", **self.opening)
        self.link = link

    def _watch_supervisor(self) -> None:
        """Waits until the worker has ended; then no further link is expected."""
        self.ending = self._await_ending()
        self.links.put(None)

    def _await_ending(self) -> Ending:
        link = self.supervisors.get()
        if link is None:
            return Ending("it did not begin") if self.is_stopped else self.job.explain_loss()
        with self.lock:
            self.supervisor = link
            if self.is_stopped:
                link.finish()
        try:
            for message in link.messages():
                if message["kind"] == "gone":
                    return Ending(message["how"], message["taken"], message["requeued"])
                self.events.put(Event(self.number, message))
            return self.job.explain_loss()
        except InvalidMessage as error:
            return Ending(f"its supervisor sent a line that is not a message: {error}")
        finally:
            link.close()

    def _receive(self) -> None:
        """Passes the messages of the worker on as events, then the event that it died."""
        link = self.link or self.links.get()
        has_ended = link is None
        if link is not None:
            if self.link is None:
                self._open(link)
                self.events.put(Event(self.number, {"kind": "ready"}))
            self._receive_from(link)
            self.link = None
            link.close()
        if not has_ended and self.killed_for is None:
            with suppress(queue.Empty):
                has_ended = self.links.get(timeout=_EXIT_SECONDS) is None
        if not has_ended:
            self._end_process()
            while (unexpected := self.links.get()) is not None:
                unexpected.close()
        if not self.is_stopped:
            self.events.put(Event(self.number, self._describe_death()))

    def _receive_from(self, link: Link) -> None:
        try:
            for message in link.messages():
                self.received_at = time.monotonic()
                if message["kind"] == "done":
                    self.is_busy = False
                if message["kind"] != "alive":
                    self.events.put(Event(self.number, message))
        except InvalidMessage as error:
            self.kill(Status.FAILED, f"it sent a line that is not a message: {error}")

    def _describe_death(self) -> Message:
        status, how = self.killed_for or (Status.FAILED, self.ending.how)
        reason = to_line(f"{how}; see {Path(self.call.folder, self.call.log)}")
        return {"kind": "died", "status": status.value, "reason": reason, "taken": self.ending.taken}

    def _end_process(self) -> None:
        """Makes the supervisor kill the worker and report how it ended."""
        with self.lock:
            if self.supervisor is not None:
                self.supervisor.finish()

    def kill(self, status: Status, why: str) -> None:
        self.killed_for = status, why
        self._end_process()
        if (link := self.link) is not None:
            link.close()  # here, since its machine may not answer

    def kill_if_stalled(self, seconds: float) -> None:
        """Kills a worker that has a cohort but has sent nothing for `seconds`."""
        if self.is_busy and self.killed_for is None and time.monotonic() - self.received_at > seconds:
            self.kill(Status.TIMED_OUT, f"no forward pass for executor.stall_seconds={seconds:g}")

    def begin_stop(self) -> None:
        """Begins to end the worker, without waiting. Its unreported trials run again when the study continues."""
        with self.lock:
            self.is_stopped = True
            if self.supervisor is None:
                self.supervisors.put(None)
            else:
                self.supervisor.finish()

    def complete_stop(self, keep_job: bool = False) -> None:
        """Waits until the worker has ended, cancels its job and closes the links."""
        self.threads[0].join(_STOP_SECONDS)
        if not keep_job:
            self.job.cancel()
        for link in (self.link, self.supervisor):
            if link is not None:
                link.close()  # ends the threads, also where its machine does not answer
        for thread in self.threads:
            thread.join(_STOP_SECONDS)
