"""The driver's benchmark: a small study is measured whole; a large one resumes and reports in time."""

from pathlib import Path
from typing import Any

import pytest

from experiments.benchmarks.driver.__main__ import PARTS, page
from experiments.benchmarks.driver.study import NAME, go_on, report_seconds, request_of
from sweeplab.records.store import read_records
from sweeplab.runtime.provenance import describe_software

RESUME_SECONDS = 10
REPORT_SECONDS = 30


def test_every_part_is_timed_once_for_every_call(tmp_path: Path) -> None:
    with request_of(tmp_path, "sampler=random", "study.num_trials=12") as request:
        ran, again = go_on(request, 5, 3), go_on(request, 5, 3)
    assert (ran["num_run"], again["num_run"]) == (12, 0)
    assert set(ran["per_second"]) == set(PARTS)
    records = read_records(tmp_path / "runs" / NAME)
    assert [record.number for record in records] == list(range(12))
    row: dict[str, Any] = {"sampler": "random", "num_trials": 12, "milliseconds": dict.fromkeys(PARTS, 0.125)}
    row |= {"trials_per_second": 1.5, "resume_seconds": 2.25, "report_seconds": 3.5}
    text = page([row], 5, 3, {**describe_software(), "device": {"processor": "a processor"}})
    assert "| random | 12 | 1.5 | 0.12 | 0.12 | 0.12 | 0.12 | 0.12 | 2.2 | 3.5 |" in text


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_trials_resume_and_report_in_time(tmp_path: Path) -> None:
    with request_of(tmp_path, "sampler=random", "study.num_trials=10000") as request:
        assert go_on(request, 1000, 4)["num_run"] == 10_000
        again = go_on(request, 1000, 4)
        assert again["num_run"] == 0
        assert again["open_seconds"] + again["run_seconds"] < RESUME_SECONDS
        assert report_seconds(request) < REPORT_SECONDS
