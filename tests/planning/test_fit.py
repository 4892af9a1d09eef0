"""Which trials will not fit, and what a study does with them."""

import io
import json
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from sweeplab.config.compose import Request
from sweeplab.config.sizes import num_bytes
from sweeplab.config.study import StudyConfig
from sweeplab.execution.driver import Driver
from sweeplab.planning.fit import Fit, judge_fit
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import read_records
from sweeplab.runtime.errors import ConfigError
from tests.study_runs import MakeRequest, Standin

RANKS = "++space.adapter.rank.choices=[1,65536]"  # some MB, and 2.1 GB of adapter, gradients and states
SMALL = "plan.device_memory=1.2GB"


def drive(request: Request) -> tuple[int, str]:
    out = io.StringIO()
    return Driver(request, Console(file=out, width=250)).run(), out.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("14GB", 14_000_000_000),
        ("14 GB", 14_000_000_000),
        ("14GiB", 15_032_385_536),
        ("0.5gb", 500_000_000),
        ("1.1GB", 1_100_000_000),
        ("512MiB", 536_870_912),
        ("1tb", 10**12),
        ("123456", 123_456),
        ("t4", 15_842_934_784),  # CUDA says 15,843,721,216; whole MiB
        ("H100", 85_520_809_984),
    ],
)
def test_sizes_in_bytes(text: str, expected: int) -> None:
    assert num_bytes("plan.device_memory", text) == expected


@pytest.mark.parametrize("text", ["", "14 XB", "-1GB", "0GB", "GB", "1e9", "14GB 2"])
def test_what_is_no_size_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"plan\.device_memory must be a size above 0 .* got .*; try 14GB") as caught:
        num_bytes("plan.device_memory", text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["14", "14 kB", "999999"])
def test_a_size_whose_unit_was_forgotten_is_refused(text: str, make_request: MakeRequest) -> None:
    """14 bytes would skip every trial of a study."""
    with pytest.raises(ConfigError, match=r"plan\.device_memory must be at least 1MB, got .* bytes; write the unit"):
        make_request(f"plan.device_memory={text}", "plan.skip_unfit=true")


def test_a_fit_is_said_only_outside_of_the_uncertainty() -> None:
    assert [judge_fit(needed, 120) for needed in (100, 101, 144, 145)] == [
        Fit.FITS,
        Fit.UNCERTAIN,
        Fit.UNCERTAIN,
        Fit.DOES_NOT_FIT,
    ]


def test_skipping_needs_a_size(make_request: MakeRequest) -> None:
    with pytest.raises(ConfigError, match=r"plan\.skip_unfit=true needs .*plan\.device_memory=14GB"):
        make_request("plan.skip_unfit=true")


def test_what_will_not_fit_is_skipped_and_never_run(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    overrides = (RANKS, "study.seeds=[0,1]", SMALL, "plan.skip_unfit=true", "executor.device=cpu")
    num_finished, printed = drive(make_request(*overrides))
    records = read_records(tmp_path / "runs" / "single")
    assert [record.status for record in records] == [Status.FINISHED, Status.SKIPPED] * 2
    assert num_finished == 2
    assert standin_here.numbers() == [0, 2]
    for record in (records[1], records[3]):
        assert record.config["adapter"]["rank"] == 65_536
        assert record.reason is not None
        assert "± 20 %) in its phase train, more than plan.device_memory=1.2 GB" in record.reason
        assert (record.step, record.phase, record.phases, record.provenance) == (None, None, {}, {"claims": []})
        assert record.reason in printed
    assert "2 of 2 started trials finished (4 planned). 2 trials skipped" in printed
    page = (tmp_path / "reports" / "single" / "report.md").read_text()
    assert "0/0 (2 skipped)" in page
    assert "(0/0 finished, 2 skipped)" in page
    assert records == read_records(tmp_path / "runs" / "single")


def test_a_skipped_trial_is_not_asked_again_and_the_storage_says_why(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    overrides = (RANKS, SMALL, "plan.skip_unfit=true", "executor.device=cpu")
    drive(make_request(*overrides))
    drive(make_request(*overrides))
    drive(make_request(RANKS))
    assert standin_here.numbers() == [0]
    [record] = [one for one in read_records(tmp_path / "runs" / "single") if one.status is Status.SKIPPED]
    storage = f"sqlite:///{tmp_path / 'runs' / 'single' / 'optuna.db'}"
    trials = optuna.load_study(study_name="single", storage=storage).get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED"]
    assert trials[1].user_attrs["reason"] == record.reason


def test_without_skipping_everything_runs(make_request: MakeRequest, standin_here: Standin) -> None:
    drive(make_request(RANKS, SMALL, "executor.device=cpu"))
    assert standin_here.numbers() == [0, 1]


def test_a_study_of_which_nothing_fits_says_so(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    num_finished, printed = drive(make_request("plan.device_memory=1MB", "plan.skip_unfit=true"))
    assert num_finished == 0
    assert "No trial finished" in printed
    assert "1 trial skipped" in printed
    assert standin_here.numbers() == []


def test_a_record_keeps_its_status(tmp_path: Path) -> None:
    record = TrialRecord(0, Status.SKIPPED, 0, {}, {}, reason="too large")
    assert TrialRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_the_default_asks_nothing(make_request: MakeRequest) -> None:
    config: StudyConfig = make_request().config
    assert (config.plan.device_memory, config.plan.skip_unfit) == (None, False)
