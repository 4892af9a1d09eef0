"""What failure costs a study: silent workers, many workers, memory that runs out, trials that only fail."""

import io
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest
from rich.console import Console

from sweeplab.config.training import TrainingConfig
from sweeplab.execution import executor, worker_handle
from sweeplab.execution.cohorts import halve_micro_batch
from sweeplab.execution.driver import Driver
from sweeplab.records.record import LargerBatch
from sweeplab.records.store import read_records
from sweeplab.runtime.errors import ConfigError
from tests.study_runs import LOSS, ComposeStudy, MakeRequest, Standin, wait_until

FOUR: Final = "executor.cohort_size=4"
SIX_RANKS: Final = "++space.adapter.rank.choices=[1,2,3,4,5,6]"
SOON: Final = "executor.stall_seconds=4"


def drive(make_request: MakeRequest, *overrides: str) -> tuple[int, str]:
    """Trials finished in all, and what was printed."""
    out = io.StringIO()
    return Driver(make_request(SIX_RANKS, *overrides), Console(file=out, width=200)).run(), out.getvalue()


@pytest.fixture
def only_hangs_take_time(standin_here: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the watch on workers, time passes while one hangs, and then fast: a busy machine is not taken for a hang."""
    passed, before, lock = 0.0, time.monotonic(), threading.Lock()

    def monotonic() -> float:
        nonlocal passed, before
        with lock:
            now = time.monotonic()
            passed += 20 * (now - before) * standin_here.hangs()
            before = now
            return passed

    for module in (executor, worker_handle):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))


def statuses(tmp_path: Path) -> list[str]:
    return [record.status.value for record in read_records(tmp_path / "runs" / "single")]


@pytest.mark.usefixtures("only_hangs_take_time")
def test_a_worker_that_hangs_is_replaced_and_its_trial_tried_again(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(hang_once=[2])
    assert drive(make_request, SOON)[0] == 6
    assert standin_here.numbers() == [0, 1, 2, 2, 3, 4, 5]


@pytest.mark.usefixtures("only_hangs_take_time")
def test_a_trial_that_always_hangs_is_found_by_halves_and_timed_out(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(hang_always=[1])
    assert drive(make_request, SOON, FOUR)[0] == 5
    record = read_records(tmp_path / "runs" / "single")[1]
    assert statuses(tmp_path) == ["finished", "timed_out", *["finished"] * 4]
    assert record.reason is not None
    assert record.reason.startswith("no forward pass for executor.stall_seconds=4; see ")


def test_two_workers_share_the_trials_evenly_and_each_is_run_once(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(wait=list(range(6)))

    def let_go_once_both_work() -> None:
        wait_until(lambda: len(standin_here.given()) == 2)
        standin_here.let_go()

    gate = threading.Thread(target=let_go_once_both_work)
    gate.start()
    assert drive(make_request, FOUR, "executor.num_workers=2")[0] == 6
    gate.join()
    assert sorted(standin_here.numbers()) == list(range(6))
    assert sorted(map(len, standin_here.heard("cohort"))) == [3, 3]
    assert len({one["pid"] for one in standin_here.given()}) == 2
    records = read_records(tmp_path / "runs" / "single")
    assert [record.params["adapter.rank"] for record in records] == [1, 2, 3, 4, 5, 6]


def test_one_of_two_workers_dies_and_only_its_trials_are_tried_again(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(die_once=[3], seconds=0.05)
    assert drive(make_request, "executor.num_workers=2")[0] == 6
    assert sorted(standin_here.numbers()) == [0, 1, 2, 3, 3, 4, 5]
    assert statuses(tmp_path) == ["finished"] * 6


def test_memory_that_runs_out_is_a_record_and_the_study_goes_on(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(largest=8)
    assert drive(make_request, "++space.adapter.rank.choices=[1,2]")[0] == 0
    assert statuses(tmp_path) == ["out_of_memory"] * 2


def test_memory_that_runs_out_halves_the_micro_batch_and_keeps_the_window(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(largest=5)
    num_finished, printed = drive(make_request, "executor.on_out_of_memory=halve", "training.micro_batch_size=12", FOUR)
    assert num_finished == 6
    for record in read_records(tmp_path / "runs" / "single"):
        training = record.config["training"]
        assert (training["micro_batch_size"], training["accumulation"]) == (3, 4)
        assert record.larger_batches == [LargerBatch(12, 1, "no room for 12"), LargerBatch(6, 2, "no room for 6")]
    assert "trial 0: out of memory; runs again with training.micro_batch_size=6 and training.accumulation=2" in printed


def test_memory_that_runs_out_stops_a_study_that_says_so(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(largest=8)
    _, printed = drive(make_request, "executor.on_out_of_memory=stop")
    assert statuses(tmp_path) == ["out_of_memory"]
    assert (
        "Stopped: trial 0 ran out of memory, and executor.on_out_of_memory=stop. The same command continues" in printed
    )


def test_half_a_micro_batch_has_rows_for_every_device() -> None:
    def smaller(size: int, accumulation: int, num_devices: int) -> tuple[int, int] | None:
        sizes = {"micro_batch_size": size, "accumulation": accumulation, "num_devices": num_devices}
        training = TrainingConfig.model_construct(None, **sizes)
        found = halve_micro_batch(training)
        return None if found is None else (found.micro_batch_size, found.accumulation)

    assert smaller(12, 1, 2) == (6, 2)
    assert smaller(12, 1, 4) == (4, 3)
    assert smaller(6, 2, 2) == (2, 6)
    assert smaller(2, 3, 2) is None


@pytest.mark.parametrize(
    ("size", "accumulation", "smaller"),
    [(12, 1, (6, 2)), (3, 4, (1, 12)), (7, 1, (1, 7)), (5, 2, (2, 5)), (1, 4, None)],
)
def test_half_a_micro_batch_keeps_the_number_of_examples(
    size: int, accumulation: int, smaller: tuple[int, int] | None
) -> None:
    found = halve_micro_batch(TrainingConfig.model_construct(None, micro_batch_size=size, accumulation=accumulation))
    assert smaller == (None if found is None else (found.micro_batch_size, found.accumulation))


def test_a_study_that_only_fails_is_stopped_and_goes_on_later(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(**{"break": [1, 2, 3, 4, 5]})
    num_finished, printed = drive(make_request, "study.max_failures=3")
    assert num_finished == 1
    assert statuses(tmp_path) == ["finished", "failed", "failed", "failed"]
    assert "Stopped: 3 trials failed one after another (study.max_failures), the last: RuntimeError: it" in printed
    assert (tmp_path / "reports" / "single" / "report.html").is_file()
    standin_here.plan()
    assert drive(make_request, "study.max_failures=3")[0] == 3


def test_failures_with_successes_between_do_not_stop_a_study(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(**{"break": [0, 2, 4]})
    assert drive(make_request, "study.max_failures=2")[0] == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("executor.num_workers=0", r"^executor\.num_workers must be auto or a whole number from 1, got 0; try auto$"),
        (
            "executor.stall_seconds=0",
            r"^executor\.stall_seconds must be a number above 0, got 0; use null",
        ),
        ("executor.trial_seconds=inf", r"^executor\.trial_seconds must be a number above 0, got inf; "),
        (
            "executor.on_out_of_memory=retry",
            r"^executor\.on_out_of_memory is unknown, got 'retry'; choose one of ",
        ),
        ("study.max_failures=0", r"^study\.max_failures must be at least 1, got 0; use null to go on$"),
    ],
)
def test_limits_that_make_no_sense_are_refused(compose_study: ComposeStudy, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_study(LOSS, "evaluation=none", override)
