"""Cohorts through the driver, on a worker without a model: who is sent when, and what a death of the worker costs."""

import io
import os
import signal
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console

from sweeplab.config.compose import Request
from sweeplab.execution import scheduler as module
from sweeplab.execution.driver import Driver
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import read_records, write_record
from sweeplab.runtime.errors import ConfigError
from tests.hostile import answer
from tests.study_runs import QUICK, MakeRequest, Standin, gone, opened, wait_until

FOUR: Final = "executor.cohort_size=4"
MEMORY: Final = "which the system sends when its memory is full"


def ranks(count: int) -> str:
    return f"++space.adapter.rank.choices={list(range(1, count + 1))}"


def drive(request: Request) -> tuple[int, str]:
    """Trials finished in all, and what was printed."""
    out = io.StringIO()
    return Driver(request, Console(file=out, width=200)).run(), out.getvalue()


def test_a_line_calls_its_metrics_what_tables_call_them(make_request: MakeRequest) -> None:
    objectives = "study.objectives=[heldout_loss_nats_per_token,scores.tiny_new_facts.exact_match]"
    config = make_request("evaluation.tasks=[tiny_new_facts]", objectives).config
    record = TrialRecord(0, Status.FINISHED, 0, {}, {}, heldout_loss_nats_per_token=1.25)
    assert module._format_objectives(record, config) == "held-out loss 1.25  exact match on tiny_new_facts –"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the records as they are written."""
    numbers: list[int] = []

    def write(folder: Path, record: TrialRecord) -> None:
        numbers.append(record.number)
        write_record(folder, record)

    monkeypatch.setattr(module, "write_record", write)
    return numbers


def statuses(tmp_path: Path) -> list[str]:
    return [record.status.value for record in read_records(tmp_path / "runs" / "single")]


def test_six_trials_of_one_geometry_are_a_cohort_of_four_and_two_refills(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path, written: list[int]
) -> None:
    assert drive(make_request(ranks(6), FOUR))[0] == 6
    assert standin_here.heard("cohort") == [[0, 1, 2, 3]]
    assert standin_here.heard("refill") == [[4], [5]]
    assert sorted(written) == [0, 1, 2, 3, 4, 5]
    records = read_records(tmp_path / "runs" / "single")
    assert [record.params["adapter.rank"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record.config["adapter"]["rank"] for record in records] == [1, 2, 3, 4, 5, 6]


def test_two_geometries_are_two_cohorts_and_dora_is_alone(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    lengths, dora = "++space.training.max_length.choices=[64,128]", "++space.adapter.dora.choices=[false,true]"
    assert drive(make_request(lengths, dora, "study.seeds=[0,1]", FOUR))[0] == 8
    records = read_records(tmp_path / "runs" / "single")
    groups = [*standin_here.heard("cohort"), *standin_here.heard("refill")]
    assert sorted(number for group in groups for number in group) == list(range(8))
    assert standin_here.heard("refill") == []
    for group in groups:
        members = [records[number] for number in group]
        assert len({record.config["training"]["max_length"] for record in members}) == 1
        if len(members) > 1:
            assert not any(record.config["adapter"]["dora"] for record in members)
    assert sorted(map(len, groups)) == [1] * 4 + [2, 2]


def test_a_trial_that_kills_every_worker_is_found_by_halves_and_alone_fails(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path, written: list[int]
) -> None:
    standin_here.plan(poison=[2])
    num_finished, printed = drive(make_request(ranks(4), FOUR))
    assert num_finished == 3
    assert standin_here.heard("cohort") == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
    assert statuses(tmp_path) == ["finished", "finished", "failed", "finished"]
    assert sorted(written) == [0, 1, 2, 3]
    (reason,) = (record.reason for record in read_records(tmp_path / "runs" / "single") if record.reason)
    assert reason == f"the worker process ended with signal 9, {MEMORY}; see {tmp_path}/runs/single/worker-0.log"
    assert printed.count("[4/4]") == 1


def test_trials_that_ended_before_the_worker_died_are_not_run_again(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path, written: list[int]
) -> None:
    standin_here.plan(die_once=[2])
    assert drive(make_request(ranks(4), FOUR))[0] == 4
    assert standin_here.heard("cohort") == [[0, 1, 2, 3], [2, 3]]
    assert standin_here.numbers() == [0, 1, 2, 2, 3]
    assert written == [0, 1, 2, 3]
    assert statuses(tmp_path) == ["finished"] * 4


def test_a_message_cut_off_in_a_cohort_costs_one_retry(
    make_request: MakeRequest, standin_here: Standin, written: list[int]
) -> None:
    standin_here.plan(cut_off=[1])
    assert drive(make_request(ranks(4), FOUR))[0] == 4
    assert standin_here.heard("cohort") == [[0, 1, 2, 3], [1, 2, 3]]
    assert written == [0, 1, 2, 3]


def test_a_refill_that_kills_the_worker_once_is_retried_too(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path, written: list[int]
) -> None:
    """Also where the cohort that it joined has had its retry already."""
    standin_here.plan(poison_once=[0], die_once=[5])
    assert drive(make_request(ranks(6), FOUR))[0] == 6
    assert standin_here.heard("cohort") == [[0, 1, 2, 3], [0, 1, 2, 3], [5]]
    assert statuses(tmp_path) == ["finished"] * 6
    assert written == [0, 1, 2, 3, 4, 5]


def test_a_refill_that_always_kills_the_worker_fails_alone(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path, written: list[int]
) -> None:
    standin_here.plan(poison=[4])
    assert drive(make_request(ranks(6), FOUR))[0] == 5
    assert statuses(tmp_path) == ["finished"] * 4 + ["failed", "finished"]
    assert sorted(written) == [0, 1, 2, 3, 4, 5]
    assert [4] in standin_here.heard("cohort")


def test_a_worker_that_dies_after_its_last_trial_is_not_sent_an_empty_cohort(
    make_request: MakeRequest, standin_here: Standin, written: list[int]
) -> None:
    standin_here.plan(die_after=[3])
    assert drive(make_request(ranks(4), FOUR))[0] == 4
    assert standin_here.heard("cohort") == [[0, 1, 2, 3]]
    assert written == [0, 1, 2, 3]


def test_bad_ends_within_a_cohort_leave_their_places_to_refills(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(diverge=[0], **{"break": [1]})
    assert drive(make_request(ranks(6), FOUR))[0] == 4
    assert statuses(tmp_path) == ["diverged", "failed", *["finished"] * 4]
    assert standin_here.heard("refill") == [[4], [5]]


def test_a_stored_record_is_told_and_not_put_into_a_cohort(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path, written: list[int]
) -> None:
    request, folder = make_request(ranks(4), FOUR), tmp_path / "runs" / "single"
    drive(make_request(ranks(4), FOUR, "study.num_trials=1"))
    driver = Driver(request, Console(file=io.StringIO()))
    asked = next(opened(request.config, driver.varied, folder).ask_all())
    stored = TrialRecord(asked.number, Status.FINISHED, asked.seed, asked.params, {}, heldout_loss_nats_per_token=2.75)
    write_record(folder, stored)  # the driver was killed here
    assert drive(request)[0] == 4
    assert standin_here.heard("cohort") == [[0], [2, 3]]
    assert written == [0, 2, 3]
    assert read_records(folder)[1] == stored
    told: Any = opened(request.config, driver.varied, folder).study.trials[1].values
    assert told == [2.75]


def test_what_does_not_fit_is_skipped_and_its_place_goes_to_the_next(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    memory = ("plan.device_memory=1.2GB", "plan.skip_unfit=true")
    drive(make_request("++space.adapter.rank.choices=[1,65536,2,3]", FOUR, *memory))
    assert standin_here.heard("cohort") == [[0, 2, 3]]
    assert statuses(tmp_path) == ["finished", "skipped", "finished", "finished"]


def test_a_driver_killed_in_mid_cohort_loses_and_doubles_nothing(standin_here: Standin, tmp_path: Path) -> None:
    standin_here.plan(wait=[2])
    command = ("space.adapter.rank.choices=[1,2,3,4,5,6]", FOUR)
    with standin_here.cli(tmp_path, *command) as driver:
        wait_until(lambda: len(standin_here.given()) == 3)
        os.kill(driver.pid, signal.SIGKILL)
    standin_here.let_go()
    wait_until(lambda: gone(standin_here.given()[-1]["pid"]))
    folder = tmp_path / "runs" / "single"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/record.json")}
    assert len(before) == 2
    standin_here.plan()
    code, out, err, _ = answer([*QUICK, *command], tmp_path)
    assert (code, err) == (0, "")
    assert out.count("[6/6]") == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert standin_here.numbers() == [0, 1, 2, 2, 3, 4, 5]
    records = read_records(folder)
    assert [(record.number, record.params, record.seed) for record in records] == [
        (number, {"adapter.rank": number + 1}, 0) for number in range(6)
    ]


def test_a_budget_too_small_for_one_trial_is_refused_before_one_begins(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(forecast={"seconds": 3600.0, "tokens": 5e6})
    with pytest.raises(ConfigError, match=r"study.budget must last for a trial, which will take 3600 s or more here"):
        drive(make_request(ranks(3), "study.budget=2min"))
    with pytest.raises(ConfigError, match=r"study.budget_tokens must last .* trains on 5,000,000 tokens, got 1,000"):
        drive(make_request(ranks(3), "study.budget_tokens=1000"))
    assert statuses(tmp_path) == []
    num_finished, printed = drive(make_request(ranks(3), "study.budget=2h"))  # goes on where it was refused
    assert num_finished == 3
    assert "[3/3]" in printed


def test_a_budget_ends_what_waits(make_request: MakeRequest, standin_here: Standin, tmp_path: Path) -> None:
    """Trials are asked for ahead, as many as the budget has time for and no more."""
    standin_here.plan(forecast={"seconds": 50.0, "tokens": None})
    num_finished, _ = drive(make_request(ranks(6), FOUR, "study.budget=2min", "executor.num_workers=1"))
    assert standin_here.heard("cohort")[0] == [0, 1]
    assert num_finished == 6  # they took no time, so that all of them were within it
