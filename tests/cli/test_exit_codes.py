"""Every exit code of the table is what a command ends with; the table stands in --help and in docs/scripts.md alike."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeplab.cli.exit_codes import EXIT_CODES
from sweeplab.cli.help import describe_all
from tests.study_runs import MOST_SECONDS, Standin, run_cli, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "scripts.md"


def test_the_page_and_help_have_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES
    shown = re.findall(r"^ +(\d+)  (.+)$", describe_all().partition("Exit codes:")[2].partition("--help")[0], re.M)
    assert {int(code): meaning for code, meaning in shown} == EXIT_CODES


@pytest.mark.parametrize(
    ("arguments", "plan", "code"),
    [
        ([], {}, 0),
        ([], {"diverge": [0]}, 1),
        (["adapter.rank=0"], {}, 2),
        ([], {"refuse": [0]}, 2),
    ],
    ids=["done", "nothing finished", "a mistake", "a mistake that the worker finds"],
)
def test_a_study_ends_with(
    arguments: list[str], plan: dict[str, list[int]], code: int, standin: Standin, tmp_path: Path
) -> None:
    standin.plan(**plan)
    assert standin.run_cli(tmp_path, *arguments)[0] == code


@pytest.fixture
def hangups_heeded() -> Iterator[None]:
    """Also where the tests run under nohup, whose processes ignore them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.usefixtures("hangups_heeded")
def test_a_signal_ends_a_study_with(number: signal.Signals, code: int, standin: Standin, tmp_path: Path) -> None:
    standin.plan(wait=[0])
    with standin.cli(tmp_path) as driver:
        wait_until(standin.numbers)
        driver.send_signal(number)
        driver.communicate(timeout=MOST_SECONDS)
    assert driver.returncode == code


def test_a_fault_has_its_traceback_and_python_s_own_code(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import rich.console\nrich.console.Console = None\n")
    done = run_cli(tmp_path, "action=list", PYTHONPATH=f"{tmp_path}:{PAGE.parents[1]}")
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in done.stderr
