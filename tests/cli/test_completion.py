"""What TAB answers, in a real bash at a terminal of its own, and within half a second of processor time."""

import os
import pty
import resource
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeplab.cli.completion import complete, write_completion
from sweeplab.config.conf import options
from sweeplab.runtime.errors import ConfigError
from tests.study_runs import MOST_SECONDS, environment, run_cli

BEGIN = "python -m sweeplab "
Tab = Callable[[str], str]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("ada", ["adapter.", "adapter="]),
        ("adapter=pr", ["adapter=prefix", "adapter=prompt"]),
        ("adapter.lora_m", ["adapter.lora_mlp="]),
        ("action=re", ["action=recommend", "action=report", "action=reproduce"]),
        ("+experiment=rank_s", ["+experiment=rank_sweep"]),
        ("+expe", ["+experiment="]),
        ("model=tiny study.na", ["study.name="]),
        ("executor.device=", ["executor.device=auto", "executor.device=cpu", "executor.device=cuda"]),
        ("adapter.dora=t", ["adapter.dora=true"]),
        ("space.adapter.rank.", ["space.adapter.rank.choices="]),
        ("spa", ["space.", "space="]),
        ("--js", ["--json"]),
        ("--help sam", ["sampler"]),
        ("--completion z", ["zsh"]),
        ("model.path=", []),
        ("optimizer.lr=", []),
        ("nothing=", []),
    ],
)
def test_what_may_stand_there(typed: str, found: list[str]) -> None:
    assert complete(BEGIN + typed) == found


def test_own_experiments_are_among_them(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("")
    assert complete(f"{BEGIN}--config-dir={tmp_path} +experiment=mi") == ["+experiment=mine"]


def test_it_takes_less_than_half_a_second_of_a_processor_and_imports_nothing_heavy(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_cli(tmp_path, "--complete", f"{BEGIN}adapter.")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "adapter.rank=" in done.stdout.split()
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.5
    program = (
        "import sys; sys.argv[1:] = ['--complete', 'x a']; from sweeplab.__main__ import main; main();"
        "print(*{'hydra', 'omegaconf', 'numpy', 'torch', 'rich'} & sys.modules.keys(), file=sys.stderr)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stderr.strip() == b""


def test_another_shell_is_refused(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "--completion", "fish")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("sweeplab: --completion must name a shell, got fish; type --completion bash")
    with pytest.raises(ConfigError, match="got nothing"):
        write_completion(["--completion"])


def test_the_shell_may_stand_behind_an_equals_sign(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "--completion=bash")
    assert (done.returncode, done.stdout) == (0, write_completion(["--completion", "bash"]))


def read_until(terminal: int, mark: str) -> str:
    """What the shell writes, up to `mark`."""
    said, end = "", time.monotonic() + MOST_SECONDS
    while mark not in said:
        assert time.monotonic() < end, said
        if select.select([terminal], [], [], 1.0)[0]:
            said += os.read(terminal, 65536).decode()
    return said


@pytest.fixture(params=["bash", "zsh"])
def tab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tab]:
    """Types a line with TAB at its end, then Enter, and gives the arguments that the command would have had."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    own = tmp_path / "bin"  # what stands before `python` in PATH: it completes, and else says its arguments
    own.mkdir()
    program = own / "python"
    program.write_text(
        f'#!/bin/sh\ncase "$3" in --comp*) exec {sys.executable} "$@";; esac\nprintf "<%s>" "$@"; echo " done"\n'
    )
    program.chmod(0o755)
    (tmp_path / "my_model").mkdir()
    flags = ["--norc", "--noprofile"] if shell == "bash" else ["-f"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        variables = environment(TERM="dumb", PS1="$ ", COLUMNS="200", ZDOTDIR=str(tmp_path))
        os.execvpe(shell, [shell, *flags, "-i"], variables | {"PATH": f"{own}:{os.environ['PATH']}"})

    def type_and_complete(typed: str) -> str:
        os.write(terminal, f"{BEGIN}{typed}\t".encode())
        time.sleep(0.1)
        os.write(terminal, b"\n")
        return read_until(terminal, " done").rpartition("<-m><sweeplab>")[2].partition(" done")[0]

    os.write(terminal, f'eval "$(python -m sweeplab --completion {shell})"; echo rea""dy\n'.encode())
    read_until(terminal, "ready\r")
    yield type_and_complete
    os.close(terminal)
    os.kill(child, 9)
    os.waitpid(child, 0)


def test_a_real_shell_completes(tab: Tab) -> None:
    assert tab("+experiment=rank_s") == "<+experiment=rank_sweep>"
    assert tab("optimizer=sg") == "<optimizer=sgd>"
    assert tab("adapter.lora_m") == "<adapter.lora_mlp=>"
    assert tab("adapter.lora_mlp=f") == "<adapter.lora_mlp=false>"
    assert tab("action=com") == "<action=compare>"
    assert tab("--js") == "<--json>"
    assert tab("model=my_m").startswith("<model=my_model")


def test_every_group_s_options_are_found() -> None:
    for group in ("model", "adapter", "sampler"):
        assert complete(f"{BEGIN}{group}=") == [f"{group}={one}" for one in options(group)]
