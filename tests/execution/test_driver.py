"""The driver: what a study leaves behind, and that nothing that can happen to its processes loses or doubles a trial.

Most of it runs on a worker without a model; the tests at the end train with the real one.
"""

import io
import json
import os
import re
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from rich.console import Console

from sweeplab.config.compose import Request
from sweeplab.execution.driver import Driver
from sweeplab.records.lock import only_writer
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError, read_facts, read_records, trial_folder, write_record
from sweeplab.runtime.errors import ConfigError
from sweeplab.tracking.status_file import read_status
from tests.hostile import answer
from tests.study_runs import (
    MOST_SECONDS,
    QUICK,
    REAL,
    SHORT,
    MakeRequest,
    RealStudy,
    Standin,
    gone,
    opened,
    running,
    wait_until,
)

RANKS: Final = "++space.adapter.rank.choices=[1,2]"
RANKS_TYPED: Final = "space.adapter.rank.choices=[1,2]"  # as a user types it
SEEDS: Final = "study.seeds=[0,1]"
POINTS: Final = [({"adapter.rank": rank}, seed) for seed in (0, 1) for rank in (1, 2)]


def drive(request: Request) -> tuple[int, str]:
    """Trials finished in all, and what was printed."""
    out = io.StringIO()
    return Driver(request, Console(file=out, width=200)).run(), out.getvalue()


def points_of(records: list[TrialRecord]) -> list[tuple[dict[str, Any], int]]:
    return [(record.params, record.seed) for record in records]


def everything_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every record's bytes and the time it was written."""
    paths = folder.glob("trials/*/record.json")
    return {path.parent.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def test_a_study_leaves_records_facts_and_a_report(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    num_finished, printed = drive(make_request(RANKS, SEEDS))
    records = read_records(tmp_path / "runs" / "single")
    assert num_finished == 4
    assert [record.number for record in records] == [0, 1, 2, 3]
    assert points_of(records) == POINTS
    assert [record.config["adapter"]["rank"] for record in records] == [1, 2, 1, 2]
    facts = read_facts(tmp_path / "runs" / "single")
    assert facts is not None
    assert (facts.name, facts.seeds, facts.num_planned, facts.command) == ("single", [0, 1], 4, "the command")
    assert facts.space == {"adapter.rank": {"choices": [1, 2]}}
    assert facts.objectives == {"heldout_loss_nats_per_token": "minimize"}
    told = json.loads((tmp_path / "reports" / "single" / "records.json").read_text())
    assert told == {"study": facts.to_dict(), "records": [record.to_dict() for record in records], "bases": []}
    for record in records:
        assert f"{record.heldout_loss_nats_per_token:.4g}" in printed
    assert printed.count("[4/4]") == 1


def test_the_same_command_again_runs_nothing(make_request: MakeRequest, standin_here: Standin, tmp_path: Path) -> None:
    drive(make_request(RANKS))
    before = everything_in(tmp_path / "runs" / "single")
    report = (tmp_path / "reports" / "single" / "report.html").read_bytes()
    assert drive(make_request(RANKS))[0] == 2
    assert everything_in(tmp_path / "runs" / "single") == before
    assert (tmp_path / "reports" / "single" / "report.html").read_bytes() == report
    assert standin_here.numbers() == [0, 1]


def test_more_seeds_and_more_trials_go_on(make_request: MakeRequest, standin_here: Standin, tmp_path: Path) -> None:
    drive(make_request(RANKS, "study.num_trials=1"))
    drive(make_request(RANKS))
    num_finished, _ = drive(make_request(RANKS, SEEDS))
    assert num_finished == 4
    assert points_of(read_records(tmp_path / "runs" / "single")) == POINTS
    assert standin_here.numbers() == [0, 1, 2, 3]


def test_more_values_of_an_axis_go_on(make_request: MakeRequest, standin_here: Standin, tmp_path: Path) -> None:
    drive(make_request(RANKS))
    assert drive(make_request("++space.adapter.rank.choices=[4,1,2]"))[0] == 3
    assert standin_here.numbers() == [0, 1, 2]
    assert read_records(tmp_path / "runs" / "single")[2].params == {"adapter.rank": 4}


def test_another_configuration_is_refused_with_the_difference(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    drive(make_request(RANKS))
    folder = tmp_path / "runs" / "single"
    before = everything_in(folder)
    for changed, difference, name in (
        ("adapter.alpha_ratio=4", "adapter.alpha_ratio was 2.0, now 4.0", "alpha_ratio_4.0"),
        (
            "++space.adapter.rank.choices=[1,4]",
            "space.adapter.rank was 1, 2 and is now 1, 4",
            "other",
        ),
        (
            "++space.adapter.dropout.choices=[0.0]",
            "space.adapter.dropout was not varied and is now 0.0",
            "other",
        ),
        (
            "study.objectives=[tokens_per_second]",
            "(study.objectives were heldout_loss_nats_per_token, now tokens_per_second)",
            "tokens_per_second",
        ),
        ("adapter.rslora=true", "adapter.rslora was false, now true", "rslora_true"),
        ("study.seeds=[1]", "study.seeds was [0], now [1]", "other"),
    ):
        with pytest.raises(ConfigError) as refused:
            drive(make_request(RANKS, changed))
        assert str(refused.value).startswith("study.name=single exists with another configuration (")
        assert difference in str(refused.value)
        assert str(refused.value).endswith(f"; add study.name={name}, or remove {folder} to start over")
    assert everything_in(folder) == before
    assert drive(make_request(RANKS, "adapter.alpha_ratio=4", "study.name=alpha_ratio_4.0"))[0] == 2  # the remedy helps


def test_another_score_is_refused_in_words_with_a_name_from_its_last_part(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    asked = [RANKS, "study.name=tested", "evaluation.tasks=[tiny_new_facts]"]
    drive(make_request(*asked))
    with pytest.raises(ConfigError) as refused:
        drive(make_request(*asked, "study.objectives=[scores.tiny_new_facts.exact_match]"))
    assert str(refused.value) == (
        "study.name=tested exists with another configuration (study.objectives were heldout_loss_nats_per_token, now "
        "scores.tiny_new_facts.exact_match); add study.name=tested-exact_match, "
        f"or remove {tmp_path / 'runs' / 'tested'} to start over"
    )


@pytest.mark.parametrize("limit", ["4", "null"])
def test_a_study_that_began_before_samples_were_drawn_goes_on_only_with_the_same_items(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path, limit: str
) -> None:
    """Earlier versions took the file's first items; without a limit nothing has changed."""
    asked = [RANKS, "evaluation.tasks=[tiny_new_facts_choice]", f"evaluation.limit={limit}"]
    drive(make_request(*asked, "evaluation.limit_seed=null"))
    path = tmp_path / "runs" / "single" / "study.json"
    facts = json.loads(path.read_text())
    assert facts["config"]["evaluation"].pop("limit_seed") is None
    path.write_text(json.dumps(facts))
    if limit != "null":
        with pytest.raises(ConfigError, match=r"another configuration \(evaluation.limit_seed was null, now 0\)"):
            drive(make_request(*asked))
        asked.append("evaluation.limit_seed=null")
    assert drive(make_request(*asked))[0] == 2


def test_a_study_that_was_refused_before_any_evidence_may_start_differently(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(refuse=[0])
    with pytest.raises(ConfigError, match=r"^data\.path=x\.json is no good; mend it$"):
        drive(make_request(RANKS))
    standin_here.plan()
    assert drive(make_request(RANKS, SEEDS, "adapter.alpha_ratio=4"))[0] == 4
    records = read_records(tmp_path / "runs" / "single")
    assert points_of(records) == POINTS
    assert [record.number for record in records] == [0, 1, 2, 3]


def test_trials_that_end_badly_are_data_and_the_others_go_on(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(diverge=[0], **{"break": [2]})
    num_finished, printed = drive(make_request(RANKS, SEEDS))
    assert num_finished == 2
    records = read_records(tmp_path / "runs" / "single")
    assert [record.status.value for record in records] == ["diverged", "finished", "failed", "finished"]
    assert "diverged: the training loss became nan" in printed
    assert "failed: RuntimeError: it broke" in printed
    assert drive(make_request(RANKS, SEEDS))[0] == 2
    assert standin_here.numbers() == [0, 1, 2, 3]  # what ended badly is evidence, and is not run again


def test_a_setting_that_cannot_run_is_a_record_once_anything_came_of_the_study(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(cannot=[0])
    with pytest.raises(ConfigError, match=r"^training.max_length=2 cuts it off$"):
        drive(make_request(RANKS))
    assert read_records(tmp_path / "runs" / "single") == []  # it may be every trial's mistake: nothing is kept
    standin_here.plan(cannot=[1])
    num_finished, printed = drive(make_request(RANKS, SEEDS))
    records = read_records(tmp_path / "runs" / "single")
    assert (num_finished, [record.status.value for record in records]) == (
        3,
        ["finished", "refused", "finished", "finished"],
    )
    assert "refused: training.max_length=2 cuts it off" in printed
    given = standin_here.numbers()
    assert drive(make_request(RANKS, SEEDS))[0] == 3
    assert standin_here.numbers() == given


def test_failed_trials_run_again_where_it_is_asked_for(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(diverge=[0], **{"break": [2]})
    assert drive(make_request(RANKS, SEEDS))[0] == 2
    kept = everything_in(tmp_path / "runs" / "single")
    standin_here.plan()
    num_finished, printed = drive(make_request(RANKS, SEEDS, "study.retry=failed"))
    assert num_finished == 3
    assert "1 failed trial will run again" in printed
    assert standin_here.numbers() == [0, 1, 2, 3, 2]
    now = everything_in(tmp_path / "runs" / "single")
    assert [name for name in kept if now[name] != kept[name]] == ["00002"]  # what diverged is evidence and stays
    aside = trial_folder(tmp_path / "runs" / "single", 2) / "record.json.set-aside"
    assert json.loads(aside.read_text())["status"] == "failed"
    assert drive(make_request(RANKS, SEEDS, "study.retry=failed"))[0] == 3
    assert standin_here.numbers() == [0, 1, 2, 3, 2]


def test_a_worker_that_dies_costs_its_trial_one_retry(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(die_once=[1])
    assert drive(make_request(RANKS, SEEDS))[0] == 4
    assert standin_here.numbers() == [0, 1, 1, 2, 3]
    assert len({one["pid"] for one in standin_here.given()}) == 2
    assert points_of(read_records(tmp_path / "runs" / "single")) == POINTS


def test_a_worker_that_dies_in_the_middle_of_a_message_costs_one_retry(
    make_request: MakeRequest, standin_here: Standin
) -> None:
    standin_here.plan(cut_off=[0])
    assert drive(make_request(RANKS))[0] == 2
    assert standin_here.numbers() == [0, 0, 1]


def test_a_worker_that_dies_twice_fails_its_trial_and_the_study_goes_on(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    standin_here.plan(die_always=[1])
    assert drive(make_request(RANKS, SEEDS))[0] == 3
    assert standin_here.numbers() == [0, 1, 1, 2, 3]
    records = read_records(tmp_path / "runs" / "single")
    lost = records[1]
    assert [record.status.value for record in records] == ["finished", "failed", "finished", "finished"]
    assert lost.reason == (
        "the worker process ended with signal 9, which the system sends when its memory is full; "
        f"see {tmp_path}/runs/single/worker-0.log"
    )
    assert (lost.params, lost.seed, lost.config["adapter"]["rank"]) == ({"adapter.rank": 2}, 0, 2)


def test_a_record_that_was_written_but_not_told_is_told_and_not_run_again(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    request = make_request(RANKS)
    folder = tmp_path / "runs" / "single"
    drive(make_request(RANKS, "study.num_trials=1"))
    driver = Driver(request, Console(file=io.StringIO()))
    asked = next(opened(request.config, driver.varied, folder).ask_all())
    written = TrialRecord(asked.number, Status.FINISHED, asked.seed, asked.params, {}, heldout_loss_nats_per_token=2.75)
    write_record(folder, written)  # the driver was killed here
    assert drive(request)[0] == 2
    assert standin_here.numbers() == [0]
    assert read_records(folder)[1] == written
    told = opened(request.config, driver.varied, folder).study.trials
    assert [trial.values for trial in told][1] == [2.75]


def test_a_full_disk_stops_the_study_which_goes_on_later(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    blocked = trial_folder(tmp_path / "runs" / "single", 1)
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder is to be")
    with pytest.raises(StoreError, match=r"trials/00001 cannot be created: .*; choose another folder"):
        drive(make_request(RANKS))
    blocked.unlink()
    assert drive(make_request(RANKS))[0] == 2
    assert standin_here.numbers() == [0, 1]  # trial 1 was not begun: what is asked is stored first


def test_two_drivers_do_not_share_a_folder(make_request: MakeRequest, standin_here: Standin, tmp_path: Path) -> None:
    drive(make_request(RANKS, "study.num_trials=1"))
    folder = tmp_path / "runs" / "single"
    with only_writer(folder), pytest.raises(StoreError, match=r"single is in use by process \d+ on .* since .*; wait"):
        drive(make_request(RANKS))
    assert drive(make_request(RANKS))[0] == 2


def test_a_log_that_cannot_be_written_is_named(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "single" / "worker-0.log").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"worker-0\.log cannot be written: Is a directory; choose another study"):
        drive(make_request(RANKS))


# slow: test_scheduler.py kills a driver in the middle of a cohort, and runs by default
@pytest.mark.slow
def test_a_driver_that_is_killed_leaves_no_worker_and_loses_no_trial(standin_here: Standin, tmp_path: Path) -> None:
    standin_here.plan(wait=[2])
    command = (RANKS_TYPED, "study.seeds=[0,1,2]")
    with standin_here.cli(tmp_path, *command) as driver:
        wait_until(lambda: len(standin_here.given()) == 3)
        driver.kill()
    standin_here.let_go()
    worker = standin_here.given()[-1]["pid"]
    wait_until(lambda: gone(worker))
    before = everything_in(tmp_path / "runs" / "single")
    assert set(before) == {"00000", "00001"}
    code, out, err, _ = answer([*QUICK, *command], tmp_path)
    assert (code, err) == (0, "")
    assert "[6/6]" in out
    assert standin_here.numbers() == [0, 1, 2, 2, 3, 4, 5]
    assert standin_here.given()[3] | {"pid": None} == standin_here.given()[2] | {"pid": None}
    after = everything_in(tmp_path / "runs" / "single")
    assert {name: after[name] for name in before} == before
    points = [({"adapter.rank": rank}, seed) for seed in (0, 1, 2) for rank in (1, 2)]
    assert points_of(read_records(tmp_path / "runs" / "single")) == points


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(standin_here: Standin, tmp_path: Path) -> None:
    standin_here.plan(seconds=100 * MOST_SECONDS)
    with standin_here.cli(tmp_path, RANKS_TYPED) as driver:
        wait_until(lambda: len(standin_here.given()) == 1)
        driver.send_signal(signal.SIGINT)
        out, err = driver.communicate(timeout=MOST_SECONDS)
    assert driver.returncode == 130
    assert "Interrupted. Finished trials are kept in runs/single; the same command goes on from there." in out
    assert err == ""
    assert gone(standin_here.given()[0]["pid"])
    standin_here.plan()
    assert answer([*QUICK, RANKS_TYPED], tmp_path).code == 0
    assert standin_here.numbers() == [0, 0, 1]


def test_exit_code_1_where_nothing_finished(standin_here: Standin, tmp_path: Path) -> None:
    standin_here.plan(diverge=[0], **{"break": [1]})
    code, out, _, _ = answer([*QUICK, RANKS_TYPED], tmp_path)
    assert code == 1
    assert "0 of 2" in out
    assert (tmp_path / "reports" / "single" / "report.html").is_file()


def test_the_command_in_the_facts_is_what_was_typed(standin_here: Standin, tmp_path: Path) -> None:
    assert answer([*QUICK, RANKS_TYPED, "study.name=ranks"], tmp_path).code == 0
    facts = read_facts(tmp_path / "runs" / "ranks")
    assert facts is not None
    assert facts.command.startswith("python -m sweeplab 'study.objectives=[heldout_loss_nats_per_token]' ")
    assert facts.command.endswith(" 'space.adapter.rank.choices=[1,2]' study.name=ranks")


@pytest.mark.parametrize(
    ("given", "folders"), [([], ["single-0", "single-1"]), (["study.name=mine"], ["mine-0", "mine-1"])]
)
def test_jobs_of_a_multirun_are_studies_with_numbers(
    given: list[str], folders: list[str], standin_here: Standin, tmp_path: Path
) -> None:
    code, _, err, _ = answer([*QUICK, "adapter.rank=1,2", *given, "-m"], tmp_path)
    assert (code, err) == (0, "")
    for folder, rank in zip(folders, (1, 2), strict=True):
        (record,) = read_records(tmp_path / "runs" / folder)
        assert record.config["adapter"]["rank"] == rank
    assert not (tmp_path / "multirun.yaml").exists()


def test_names_of_their_own_stay_as_they_are_in_a_multirun(standin_here: Standin, tmp_path: Path) -> None:
    code, _, err, _ = answer([*QUICK, "study.name=one,other", "-m"], tmp_path)
    assert (code, err) == (0, "")
    assert [len(read_records(tmp_path / "runs" / name)) for name in ("one", "other")] == [1, 1]


# The real worker from here on.


def test_a_refused_study_can_be_started_again_with_the_corrected_command(real_study: RealStudy) -> None:
    assert real_study.refused.code == 2
    assert real_study.refused.err == (
        "sweeplab: data.max_skipped=0.01 is the share of records that may teach nothing, got 0.048: 1 of 21 records of "
        "records.jsonl (line 21: field 'output' is missing); correct them, or raise data.max_skipped\n"
    )
    assert (real_study.done.returncode, real_study.done.stderr) == (0, "")
    assert len(read_records(real_study.folder / "runs" / "single")) == 2


def test_a_diverging_trial_is_recorded_and_the_others_finish(
    real_study: RealStudy,
) -> None:
    folder, done = real_study.folder, real_study.done
    assert (done.returncode, done.stderr) == (0, "")
    lost, finished = read_records(folder / "runs" / "single")
    assert lost.status is Status.DIVERGED
    assert lost.reason is not None
    assert re.search(r"loss became (nan|inf)", lost.reason)
    assert (lost.heldout_loss_nats_per_token, lost.params) == (None, {"optimizer.lr": 1e30})
    assert finished.status is Status.FINISHED
    assert [point.step for point in finished.losses] == [1, 2, 3]
    assert [point.step for point in finished.heldout_losses] == [1, 2, 3]
    assert len(lost.heldout_losses) < 3
    assert finished.heldout_losses[-1].loss == finished.heldout_loss_nats_per_token
    assert finished.adapter_bytes == sum(
        (trial_folder(folder / "runs" / "single", 1) / "adapter" / name).stat().st_size
        for name in ("adapter_model.safetensors", "adapter_config.json")
    )


def test_the_report_says_what_the_records_say(real_study: RealStudy) -> None:
    folder, done = real_study.folder, real_study.done
    records = read_records(folder / "runs" / "single")
    told = json.loads((folder / "reports" / "single" / "records.json").read_text())
    assert told["records"] == [record.to_dict() for record in records]
    page = (folder / "reports" / "single" / "report.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith(("| 0 |", "| 1 |"))]
    loss = records[1].heldout_loss_nats_per_token
    assert loss is not None
    assert "diverged" in rows[0]
    assert f"{loss:.3f}" in rows[1]
    assert f"{records[1].num_trainable_params:,}" in page
    assert "1 of 2 started trials finished" in page
    assert "1 of 2 started trials finished" in done.stdout


def test_a_finished_study_is_not_touched_by_its_command(real_study: RealStudy, tmp_path: Path) -> None:
    folder = shutil.copytree(real_study.folder, tmp_path / "copy")
    before = everything_in(folder / "runs" / "single")
    again = answer([*REAL, "tracking=none"], folder)
    assert (again.code, again.err) == (0, "")
    assert everything_in(folder / "runs" / "single") == before


def worker_of(driver: psutil.Process, other_than: int | None = None) -> int | None:
    """The process id of the driver's worker."""
    for child in driver.children(recursive=True):
        pid: int = child.pid
        with suppress(psutil.Error):  # it may end while one looks
            if "sweeplab.execution.worker" in child.cmdline() and pid != other_than:
                return pid
    return None


def is_training(study: Path) -> bool:
    status = read_status(study)
    return status is not None and any(trial.loss is not None for trial in status.running)


# slow: a worker that dies, and Ctrl-C, are shown with the stand-in; two real ones import torch twice
@pytest.mark.slow
def test_the_real_worker_is_replaced_when_killed_and_gone_after_ctrl_c(tmp_path: Path) -> None:
    settings = (*SHORT, "training.max_steps=1000000")
    with running([sys.executable, "-m", "sweeplab", *QUICK, *settings], tmp_path) as driver:
        parent = psutil.Process(driver.pid)
        wait_until(lambda: worker_of(parent))
        first = worker_of(parent)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: is_training(tmp_path / "runs" / "single"))
        second = worker_of(parent, first)
        assert second is not None
        driver.send_signal(signal.SIGINT)
        out, err = driver.communicate(timeout=MOST_SECONDS)  # training would take days
    assert (driver.returncode, err) == (130, "")
    assert "the same command goes on from there" in out
    assert gone(first)
    assert gone(second)
    assert read_records(tmp_path / "runs" / "single") == []
