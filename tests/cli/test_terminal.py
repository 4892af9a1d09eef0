"""A terminal that is closed, knows few letters or sends a signal neither ends a study nor leaves it in disorder."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweeplab.__main__ import main
from sweeplab.cli import help as help_module
from sweeplab.cli.terminal import Ended, lasting_stream, outlives_terminal
from tests.hostile import answer
from tests.study_runs import QUICK, environment, run_cli


def written(text: str, encoding: str) -> str:
    """What a terminal of this encoding gets."""
    kept = io.BytesIO()
    stream = lasting_stream(io.TextIOWrapper(kept, encoding=encoding, errors="strict"), 1)
    stream.write(text)
    stream.flush()
    return kept.getvalue().decode(encoding)


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as before:
        stream = lasting_stream(before, writing)
        print("first", file=stream, flush=True)
        assert os.read(reading, 100) == b"first\n"
        os.close(reading)
        for _ in range(3):
            print("nobody reads this", file=stream, flush=True)
        print("nor this", file=stream)
        stream.close()


@pytest.mark.parametrize("flags", [(), ("-u",)], ids=["buffered", "unbuffered"])
def test_a_process_goes_on_where_its_reader_has_gone(flags: tuple[str, ...], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom rich.console import Console\n"
        "from sweeplab.cli.terminal import outlives_terminal\n"
        "with outlives_terminal():\n    console = Console()\n    console.print('one')\n    sys.stdin.read()\n"
        "    console.print('two')\n    print('three', file=sys.stderr)\n"
        "Path('done').touch()\n"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, *flags, "-c", program]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"one\n"
        process.stdout.close()
        process.stderr.close()
        process.stdin.close()
    assert process.returncode == 0
    assert (tmp_path / "done").exists()


def test_a_closed_output_takes_what_is_written() -> None:
    with lasting_stream(None, 1) as stream:
        print("nowhere", file=stream, flush=True)


def test_a_full_disk_behind_the_output_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        stream = lasting_stream(full, full.fileno())
        for _ in range(3):
            print("no room", file=stream, flush=True)
    assert capfd.readouterr().err.count("No space left on device") == 1


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("latin-1", "é – … ± 10⁻³ ┃━┏ ⠋", "é - ... ± 10-³ |-+ *"),
        ("ascii", "é ± µ → “x” Ł", 'e +- u -> "x" \\u0141'),
        ("utf-8", "é – ┃ 🙈", "é – ┃ 🙈"),
        ("ascii", "🙈\u202e", "\\U0001f648\\u202e"),
    ],
)
def test_letters_that_an_encoding_lacks_become_plain(encoding: str, text: str, shown: str) -> None:
    assert written(text, encoding) == shown


@pytest.mark.parametrize(
    ("number", "word", "code"), [(signal.SIGTERM, "terminated", 143), (signal.SIGHUP, "hung up", 129)]
)
def test_a_signal_ends_with_one_word_and_its_code(
    number: signal.Signals,
    word: str,
    code: int,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(help_module, "asked_help", lambda _: os.kill(os.getpid(), number))
    monkeypatch.setattr(sys, "argv", ["sweeplab"])
    before = signal.signal(number, signal.SIG_DFL)  # what started the tests may ignore it, as nohup does
    request.addfinalizer(lambda: signal.signal(number, before))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    assert capsys.readouterr().err == f"sweeplab: {word}\n"
    assert signal.getsignal(number) is signal.SIG_DFL


def test_an_interrupt_while_modules_are_imported_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'sweeplab.cli.terminal':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
    )
    done = run_cli(tmp_path, "action=list", PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[2]}")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with outlives_terminal():
            os.kill(os.getpid(), signal.SIGHUP)
    except Ended:
        pytest.fail("nohup was not heeded")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_jobs_after_a_refused_one_have_their_turn(tmp_path: Path) -> None:
    done = answer([*QUICK, "-m", "action=plan", "adapter.rank=0,4", "study.name=a,b"], tmp_path)
    lines = done.err.splitlines()
    assert done.code == 2
    assert sum("adapter.rank must be at least 1" in line for line in lines) == 2
    assert [line.partition(" (")[0] for line in lines[-2:]] == ["sweeplab: job 0", "sweeplab: job 1"]
    assert lines[-1].endswith("adapter.rank=0 study.name=b) was refused")
    assert {path.parent.name for path in tmp_path.glob("runs/*/plan.json")} == {"a", "b"}
