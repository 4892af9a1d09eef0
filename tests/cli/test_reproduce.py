"""A recorded trial once more: what counts as the same, and what is said where it is not."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file

from sweeplab.cli import reproduce as module
from sweeplab.cli.reproduce import (
    compare_provenance,
    compare_records,
    compare_weights,
    find_largest_gap,
    read_recorded,
    show_comparison,
)
from sweeplab.records.record import HeldoutPoint, Score, Status, TrainPoint, TrialRecord
from sweeplab.records.store import read_record, trial_folder, write_record
from sweeplab.runtime.errors import ConfigError
from tests.hostile import answer
from tests.study_runs import LOSS, SHORT, MakeRequest, RealStudy

ADAPTER = "adapter/adapter_model.safetensors"


def record(loss: float = 2.0, score: float = 0.5) -> TrialRecord:
    return TrialRecord(
        0,
        Status.FINISHED,
        0,
        {},
        {},
        losses=[TrainPoint(1, loss, 0.1)],
        heldout_losses=[HeldoutPoint(1, loss)],
        scores={"task": {"acc": Score(score, None, 100)}},
    )


def verdict(before: TrialRecord, now: TrialRecord, folder: Path) -> tuple[bool, str]:
    out = io.StringIO()
    said = show_comparison(compare_records(before, now, (folder, folder)), [], True, Console(file=out, width=200))
    return said, out.getvalue()


@pytest.mark.parametrize(
    ("loss", "score", "same", "words"),
    [
        (2.0, 0.5, True, "The same numbers, bit for bit."),
        (2.0009, 0.51, True, "The same numbers, within what is allowed."),
        (2.002, 0.5, False, "Not the same numbers."),
        (2.0, 0.53, False, "Not the same numbers."),
    ],
)
def test_what_counts_as_the_same(tmp_path: Path, loss: float, score: float, same: bool, words: str) -> None:
    found, printed = verdict(record(), record(loss, score), tmp_path)
    assert found is same
    assert words in printed


def test_a_number_that_only_one_of_them_has_is_a_difference(tmp_path: Path) -> None:
    assert find_largest_gap([1.0, 2.0], [1.0]) is None
    assert find_largest_gap([1.0, None], [1.5, None]) == 0.5
    assert find_largest_gap([1.0], [None]) is None
    assert verdict(record(), replace(record(), scores={}), tmp_path)[0] is False


def test_weights_are_compared_number_by_number(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 1.25)):
        (tmp_path / name / "adapter").mkdir(parents=True)
        save_file({"w": np.full((2, 3), value, np.float32)}, tmp_path / name / ADAPTER)
    assert compare_weights(tmp_path / "a", tmp_path / "b") == 0.25
    assert compare_weights(tmp_path / "a", tmp_path / "a") == 0.0
    save_file({"w": np.ones((3, 2), np.float32)}, tmp_path / "b" / ADAPTER)
    assert compare_weights(tmp_path / "a", tmp_path / "b") is None
    assert compare_weights(tmp_path / "a", tmp_path) is None


def test_what_the_runs_were_made_with_is_named() -> None:
    then = {"versions": {"torch": "2.12", "peft": "1"}, "commit": "abc"}
    now = {"versions": {"torch": "2.13", "peft": "1"}, "commit": "abc", "dirty": True}
    assert list(compare_provenance(then, now)) == ["dirty: None then, True now", "versions.torch: 2.12 then, 2.13 now"]


def test_a_trial_without_a_record_or_anything_to_compare_is_refused(make_request: MakeRequest, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "single"
    with pytest.raises(ConfigError, match=r"^trial=3 has no record in .*; there are: none; give study\.name=NAME"):
        read_recorded(make_request("action=reproduce", "trial=3"))
    write_record(folder, replace(record(), status=Status.FAILED, reason="it broke"))
    with pytest.raises(ConfigError, match=r"^trial=0 ended as failed, which leaves nothing to compare$"):
        read_recorded(make_request("action=reproduce", "trial=0"))
    with pytest.raises(ConfigError, match=r"^action=reproduce needs the number of a recorded trial: trial=0$"):
        make_request("action=reproduce")


def test_the_real_worker_gives_a_trial_the_same_numbers_again(
    real_study: RealStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It trained beside a trial that diverged; alone it rounds otherwise, if at all. A doctored record is found out."""
    shutil.copytree(real_study.folder / "runs" / "single", tmp_path / "runs" / "single")
    command = (*SHORT, LOSS, "tracking=none", "evaluation=none", "action=reproduce", "trial=1")
    again = answer([*command], tmp_path)
    assert (again.code, again.err) == (0, "")
    assert "The same numbers, " in again.out
    there, here = trial_folder(tmp_path / "runs" / "single", 1), tmp_path / "runs" / "single" / "reproduced" / "00001"
    assert read_record(here / "record.json").config == read_record(there / "record.json").config
    before, now = (load_file(folder / ADAPTER) for folder in (there, here))
    assert max(float(np.abs(before[name] - now[name]).max()) for name in before) < 1e-5
    rerun = read_record(here / "record.json")
    monkeypatch.setattr(module, "_rerun_trial", lambda *_: rerun)  # it would train once more to the same end
    assert answer([*command], tmp_path).code == 0
    doctored = json.loads((there / "record.json").read_text())
    doctored["heldout_losses"][0]["loss"] += 0.01
    (there / "record.json").write_text(json.dumps(doctored))
    assert answer([*command], tmp_path).code == 1
