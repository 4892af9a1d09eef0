"""The trial that a command names: one that left nothing to take along is refused in one line; best is a leading one."""

from pathlib import Path
from typing import Any

import pytest

from sweeplab.cli.finished_trials import choose_trial, find_trial
from sweeplab.records.record import Status, TrialRecord
from sweeplab.runtime.errors import ConfigError
from tests.study_runs import ComposeStudy


def test_a_whole_model_is_not_kept_and_so_not_exported(compose_trial: Any, tmp_path: Path) -> None:
    config = compose_trial("adapter=none", "quantization=none").to_dict()
    record = TrialRecord(6, Status.FINISHED, 0, {}, config)
    with pytest.raises(ConfigError, match=r"^trial=6 trained the whole base .*, which a study does not keep; export a"):
        find_trial(6, [record], tmp_path, "adapter")


def test_a_finished_trial_without_its_folder_is_refused(compose_trial: Any, tmp_path: Path) -> None:
    record = TrialRecord(0, Status.FINISHED, 0, {}, compose_trial("adapter=lora").to_dict())
    with pytest.raises(ConfigError, match=r"^trial=0 has no adapter in .*00000/adapter; restore the folder, or run"):
        find_trial(0, [record], tmp_path, "adapter")


def test_what_is_named_by_number_needs_no_records(compose_study: ComposeStudy, tmp_path: Path) -> None:
    assert choose_trial(compose_study("action=answers", "trial=3"), tmp_path, []) == 3
    with pytest.raises(ConfigError, match="trial=best: no setting leads"):
        choose_trial(compose_study("action=answers", "trial=best"), tmp_path, [])
