"""What the driver hears of workers that hang or say what is no message; the workers are the test's own."""

import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeplab.execution.executor import Workers
from sweeplab.execution.messages import Message, line_of
from sweeplab.execution.placement import Place
from tests.configs import workers_of

OBSERVED = line_of("observed", number=1, step=1, values={})


class Spoken:
    """A link that says what it is given."""

    def __init__(self) -> None:
        self.said: queue.Queue[str | None] = queue.Queue()

    def is_ready(self) -> bool:
        return True

    def tell(self, line: str) -> None:
        json.loads(line)

    def lines(self) -> Iterator[str]:
        while (line := self.said.get()) is not None:
            yield line
        yield line_of("gone", how="killed", taken=False)

    def kill(self) -> None:
        self.said.put(None)

    close = kill


@pytest.fixture
def links() -> list[Spoken]:
    return [Spoken(), Spoken()]


@pytest.fixture
def workers(links: list[Spoken], tmp_path: Path) -> Iterator[Workers]:
    """Two workers at work, each of which may be silent for half a second."""
    executor = workers_of(num_workers=2, stall_seconds=0.5)
    with Workers([Place(executor, None)] * 2, False, tmp_path, links.__getitem__) as found:
        for number in range(2):
            found.submit(number, [])
        yield found


def death(workers: Workers) -> tuple[int, Message, list[int]]:
    """The first worker that died, what is said of it, and who spoke before."""
    spoke: list[int] = []
    while True:
        event = workers.next_event()
        if event.message["kind"] == "died":
            return event.worker, event.message, spoke
        spoke.append(event.worker)


def test_a_worker_that_hangs_is_found_while_another_one_talks(workers: Workers, links: list[Spoken]) -> None:
    over, started = threading.Event(), time.monotonic()

    def talk() -> None:
        while not over.wait(0.02):
            links[1].said.put(OBSERVED)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        worker, message, spoke = death(workers)
    finally:
        over.set()
        talker.join()
    assert worker == 0
    assert set(spoke) == {1}
    assert message["status"] == "timed_out"
    assert message["reason"].startswith("no forward pass for executor.stall_seconds=0.5; see ")
    assert time.monotonic() - started < 30


def test_a_worker_that_says_what_is_no_message_is_ended(workers: Workers, links: list[Spoken]) -> None:
    links[1].said.put("Segmentation fault\n")
    worker, message, spoke = death(workers)
    assert (worker, message["status"], spoke) == (1, "failed", [])
    assert message["reason"].startswith("it said what is no message: 'Segmentation fault\\n'; see ")
