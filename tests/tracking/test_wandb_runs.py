"""The W&B mirror, read back with W&B's own reader: the records' numbers exactly, and nothing of machine or user."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from sweeplab.config.tracking import NoTracking, WandbTracking
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import read_records
from sweeplab.tracking.tracker import NoTracker
from sweeplab.tracking.wandb_runs import _heed_environment, _summarize_record, build_tracker
from tests.records.test_record import full_record
from tests.study_runs import RealStudy, Standin, environment

WANDB: Final = Path(sys.executable).with_name("wandb")
ABSOLUTE: Final = re.compile(rb"/(home|root|Users|tmp|usr|var|opt|work|mnt)/\w")


def leet(path: Path) -> list[dict[str, Any]]:
    """The records of an offline run, as W&B's reader gives them."""
    command = [str(WANDB), "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def offline_runs(study: Path) -> list[Path]:
    """Every run's log in the order of its start."""
    return sorted(study.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)


class Run:
    """One offline run: what was declared of it, its summary, and its curve by step."""

    def __init__(self, path: Path) -> None:
        self.records = leet(path)
        (self.declared,) = self.of_kind("run")
        self.config: dict[str, Any] = self.declared["config"]["update"]
        self.summary: dict[str, Any] = {}
        for change in self.of_kind("summary"):
            self.summary |= change["update"]
        (ending,) = self.of_kind("exit")
        self.exit_code: int = ending["exit_code"]
        items = [change["item"] for change in self.of_kind("history")]
        self.curve = {item["_step"]: {key: item[key] for key in item if not key.startswith("_")} for item in items}

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [record[kind] for record in self.records if record["type"] == kind]


def curve_of(record: TrialRecord) -> dict[int, dict[str, float]]:
    """The record's losses as W&B is to hold them."""
    curve: dict[int, dict[str, float]] = {}
    for point in record.losses:
        curve.setdefault(point.step, {}).update(train_loss=point.loss, lr=point.lr)
    for held in record.heldout_losses:
        curve.setdefault(held.step, {})["heldout_loss"] = held.loss
    return curve


@pytest.fixture(scope="module")
def mirrored(real_study: RealStudy) -> list[tuple[TrialRecord | None, Run]]:
    """The study's runs, each with its record; the report's has none."""
    study = real_study.folder / "runs" / "single"
    return list(zip([*read_records(study), None], map(Run, offline_runs(study)), strict=True))


Mirrored = list[tuple[TrialRecord | None, Run]]


def test_one_run_per_trial_and_one_for_the_report(mirrored: Mirrored) -> None:
    assert [(run.declared["display_name"], run.declared["job_type"]) for _, run in mirrored] == [
        *(
            (f"lr={record.params['optimizer.lr']:.4g} seed={record.seed}", "trial")
            for record, _ in mirrored[:2]
            if record
        ),
        ("single-report", "report"),
    ]
    assert {run.declared["run_group"] for _, run in mirrored} == {"single"}
    assert {run.declared["project"] for _, run in mirrored} == {"sweeplab"}
    assert {run.exit_code for _, run in mirrored} == {0}


def test_the_configuration_is_the_records(mirrored: Mirrored) -> None:
    for record, run in mirrored[:2]:
        assert record is not None
        values = {"number": record.number, "seed": record.seed, "params": record.params, "config": record.config}
        assert {key: value for key, value in run.config.items() if key != "_wandb"} == values
        assert run.config["config"]["optimizer"]["lr"] == record.params["optimizer.lr"]


def test_the_summary_is_the_records_to_the_last_digit(mirrored: Mirrored) -> None:
    for record, run in mirrored[:2]:
        assert record is not None
        said = {key: value for key, value in run.summary.items() if not key.startswith("_")}
        drawn = {"train_loss", "lr", "heldout_loss"}  # the curve's last point
        assert {key: value for key, value in said.items() if key not in drawn} == _summarize_record(record)
    record, run = mirrored[1]
    assert record is not None
    score = record.scores["tiny_addition_choice"]["acc"]
    assert run.summary["scores/tiny_addition_choice/acc"] == score.value
    assert run.summary["scores/tiny_addition_choice/acc_stderr"] == score.stderr
    assert run.summary["heldout_loss_nats_per_token"] == record.heldout_loss_nats_per_token
    assert run.summary["num_trainable_params"] == record.num_trainable_params


def test_the_curve_is_the_records(mirrored: Mirrored) -> None:
    for record, run in mirrored[:2]:
        assert record is not None
        assert run.curve == curve_of(record)
        assert run.curve


def test_a_trial_that_diverged_says_so_and_has_no_stand_in_number(mirrored: Mirrored) -> None:
    record, run = mirrored[0]
    assert record is not None
    assert (record.status, run.summary["status"]) == (Status.DIVERGED, "diverged")
    assert run.summary["reason"] == record.reason
    assert "heldout_loss_nats_per_token" not in run.summary


def test_the_report_is_mirrored_whole(mirrored: Mirrored, real_study: RealStudy) -> None:
    _, run = mirrored[2]
    (mirrored_html,) = (real_study.folder / "runs" / "single").glob(
        f"wandb/offline-run-*/files/{run.summary['report.path']}"
    )
    _, _, page = real_study.report.partition("<head>")  # W&B puts a style sheet of its own behind it
    assert page.strip() in mirrored_html.read_text()


def test_the_report_has_tables_a_plot_and_its_files_as_an_artifact(mirrored: Mirrored, real_study: RealStudy) -> None:
    _, run = mirrored[2]
    logged = {one["name"].removeprefix(f"run-{run.declared['run_id']}-"): one for one in run.of_kind("artifact")}
    assert {name: one["type"] for name, one in logged.items()} == {
        "trials": "run_table",
        "settings": "run_table",
        "score_and_memory_table": "run_table",
        "single-report": "report",
    }
    files = {one["path"]: one for one in logged["single-report"]["manifest"]["contents"]}
    assert {"report.html", "report.md", "records.json"} <= set(files)
    kept = real_study.folder / files["report.html"]["local_path"]  # from where the study was started
    assert kept.read_text() == real_study.report


def test_nothing_of_machine_or_user_is_kept(mirrored: Mirrored, real_study: RealStudy) -> None:
    kept = [path for path in (real_study.folder / "runs" / "single" / "wandb").rglob("*") if path.is_file()]
    assert sum(path.suffix == ".wandb" for path in kept) == 3
    secrets = [*real_study.private.values(), str(real_study.folder), str(Path.home()) + "/", sys.executable]
    for path in kept:
        data = path.read_bytes()
        assert [secret for secret in secrets if secret.encode() in data] == [], path
    host = re.compile(rf"(?<!\w){re.escape(socket.gethostname())}(?!\w)")
    for path in (path for path in kept if path.suffix == ".wandb"):
        assert ABSOLUTE.search(path.read_bytes()) is None
    for _, run in mirrored:
        assert host.search(json.dumps(run.records)) is None


def test_no_secret_and_no_home_is_in_any_file(real_study: RealStudy) -> None:
    """Records, items, checkpoints, logs, search state, W&B's files and reports, byte for byte."""
    kept = [path for part in ("runs", "reports") for path in (real_study.folder / part).rglob("*") if path.is_file()]
    assert {"record.json", "study.json", "optuna.db", "worker-0.log", "report.html"} <= {path.name for path in kept}
    for path in kept:
        data = path.read_bytes()
        assert [secret for secret in real_study.private.values() if secret.encode() in data] == [], path


def test_a_retried_trial_gets_a_run_of_its_own(standin: Standin, tmp_path: Path) -> None:
    """Its steps begin again, and W&B would drop what goes back."""
    standin.plan(die_once=[0])
    code, _, err = standin.run_cli(tmp_path, "tracking=wandb")
    assert (code, err) == (0, "")
    study = tmp_path / "runs" / "single"
    lost, finished, report = map(Run, offline_runs(study))
    (record,) = read_records(study)
    assert (lost.exit_code, finished.exit_code) == (1, 0)
    assert finished.curve == curve_of(record)
    assert report.declared["job_type"] == "report"
    assert report.summary["answer"]["leading"]["value"]["value"] == record.heldout_loss_nats_per_token
    assert report.summary["answer"]["statement"]


def test_none_needs_no_wandb(tmp_path: Path) -> None:
    settings = NoTracking()
    assert isinstance(build_tracker(settings, "study", tmp_path, print), NoTracker)


def test_a_summary_leaves_out_what_is_missing() -> None:
    empty = TrialRecord(0, Status.FAILED, 0, {}, {}, reason="it broke")
    assert _summarize_record(empty) == {"status": "failed", "reason": "it broke"}
    full = _summarize_record(full_record())
    assert None not in full.values()
    assert full["phases/train/peak_reserved_bytes"] == 12
    assert full["num_trials_in_cohort"] == 2
    assert {name: value for name, value in full.items() if name.startswith("solo/")} == {
        "solo/step_seconds": 0.25,
        "solo/num_steps": 3,
        "solo/num_tokens": 512,
        "solo/peak_resident_bytes": 700_000_000,
        "solo/peak_allocated_bytes": 650_000_000,
        "solo/evaluation_peak_allocated_bytes": 600_000_000,
        "solo/median_step_seconds": 0.375,
        "solo/slowest_step_seconds": 0.5,
        "solo/step_processor_seconds": 0.75,
    }
    assert full["scores/tiny_addition/exact_match"] == 0.25
    assert "scores/tiny_addition/exact_match_stderr" not in full


@pytest.mark.parametrize(
    ("variables", "mode", "expected", "said"),
    [
        ({}, "offline", "offline", []),
        ({}, "online", "online", []),
        ({"WANDB_MODE": "disabled"}, "online", None, ["W&B: WANDB_MODE=disabled is set, so that nothing is mirrored"]),
        ({"WANDB_DISABLED": "true"}, "offline", None, ["W&B: WANDB_DISABLED is set, so that nothing is mirrored"]),
        ({"WANDB_DISABLED": "false"}, "offline", "offline", []),
        ({"WANDB_MODE": "offline"}, "online", "offline", ["W&B: WANDB_MODE=offline is set, so that runs are kept"]),
        ({"WANDB_MODE": "online"}, "offline", "offline", ["W&B: WANDB_MODE=online is not used; runs are sent with"]),
        ({"WANDB_API_KEY": "broken"}, "offline", "offline", []),
        (
            {"WANDB_RUN_ID": "fixed", "WANDB_RESUME": "must", "WANDB_NAME": "mine"},
            "offline",
            "offline",
            ["W&B: WANDB_RUN_ID, WANDB_RESUME, WANDB_NAME not used: every trial has its own run"],
        ),
    ],
)
def test_variables_of_wandb_are_heeded_or_said(
    variables: dict[str, str], mode: Any, expected: str | None, said: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(variables))
        sentences: list[str] = []
        settings = WandbTracking(mode=mode, project="p", entity=None)
        assert _heed_environment(settings, sentences.append) == expected
        assert expected is None or "WANDB_RUN_ID" not in os.environ
        assert (expected == "offline") <= ("WANDB_API_KEY" not in os.environ)
    assert [line.startswith(start) for line, start in zip(sentences, said, strict=True)] == [True] * len(said)
