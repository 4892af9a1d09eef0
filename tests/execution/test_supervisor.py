"""What a supervisor does with a worker's process: starts it, tells once how it ended, and ends it with the driver."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from sweeplab.execution.link import Link, Message, invite_child
from sweeplab.execution.supervisor import Call, Supervisor
from tests.study_runs import gone, wait_until


class Supervised:
    """A supervisor in a thread, and the driver's ends of both links."""

    def __init__(self, folder: Path, program: list[str]) -> None:
        self.worker, for_worker = invite_child()
        self.link, for_supervisor = invite_child()
        call = Call(program, str(folder), "worker.log", {"MINE": "1"}, for_worker, for_supervisor)
        self.supervisor = Supervisor(call)
        self.thread = threading.Thread(target=self.supervisor.run)
        self.thread.start()

    def pid(self) -> int:
        wait_until(lambda: self.supervisor.process is not None)
        assert self.supervisor.process is not None
        return self.supervisor.process.pid

    def messages(self) -> list[Message]:
        """All that the supervisor tells, and what is left of it afterwards."""
        received = list(self.link.messages())
        self.close()
        self.thread.join(200)
        assert not self.thread.is_alive()
        return received

    def close(self) -> None:
        link: Link
        for link in (self.worker, self.link):
            link.close()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("raise SystemExit(7)", "the worker process ended with exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "the worker process ended with signal 15"),
    ],
)
def test_how_a_worker_ended_is_told_once(code: str, how: str, tmp_path: Path) -> None:
    assert Supervised(tmp_path, python(code)).messages() == [
        {"kind": "gone", "how": how, "taken": False, "requeued": False}
    ]


def test_a_worker_s_prints_are_in_its_log(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['MINE']); sys.stderr.write('to stderr'); os.system('echo from a child')"
    Supervised(tmp_path, python(code)).messages()
    text = (tmp_path / "worker.log").read_text()
    assert all(part in text for part in ("1\n", "to stderr", "from a child"))


def test_a_worker_that_hears_nothing_any_more_ends_with_its_driver(tmp_path: Path) -> None:
    """As one whose threads wait for each other, or that the system has stopped."""
    supervised = Supervised(tmp_path, python("import time; time.sleep(600)"))
    pid = supervised.pid()
    os.kill(pid, signal.SIGSTOP)
    supervised.link.close()  # as where the driver is killed
    wait_until(lambda: gone(pid))
    supervised.thread.join(200)
    supervised.close()


def test_a_driver_that_ends_a_worker_still_hears_how(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, python("import time; time.sleep(600)"))
    pid = supervised.pid()
    supervised.link.finish()
    (message,) = supervised.messages()
    assert message["how"].startswith("the worker process ended with signal 9")
    assert gone(pid)


def test_a_machine_that_is_taken_away_is_the_first_and_only_reason(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path, python("import time; time.sleep(600)"))
    supervised.pid()
    supervised.supervisor.give_up("Slurm took the node away")
    assert supervised.messages() == [
        {"kind": "gone", "how": "Slurm took the node away", "taken": True, "requeued": True}
    ]


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    (message,) = Supervised(tmp_path, [str(tmp_path / "no-such-program")]).messages()
    assert message["how"].startswith("the worker process could not be started: ")


def test_a_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "worker.log").mkdir()
    (message,) = Supervised(tmp_path, python("")).messages()
    assert message["kind"] == "refused"
    assert message["message"].endswith("worker.log cannot be written: Is a directory; choose another study.runs_dir")
