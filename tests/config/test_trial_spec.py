"""One trial from the search to the record: through JSON and back, and what its cohort has in common."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import Status, TrialRecord
from tests.study_runs import ComposeStudy, environment

MIXTURE: Final = ("data=mixture", "data.parts=[{path: a.json, weight: 3}, {path: b.json, weight: 1}]")


@pytest.mark.parametrize("overrides", [(), ("adapter=dora", "optimizer=sgd"), MIXTURE])
def test_a_trial_is_the_same_after_json(
    compose_study: ComposeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("[]")
    monkeypatch.chdir(tmp_path)
    config = compose_study(*overrides).trial_config()
    spec = TrialSpec(7, 3, {"adapter.rank": 8, "optimizer.lr": 1e-4}, config, Path("runs/study/trials/00007"))
    again = TrialSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert type(again.config) is type(config)
    assert again.to_dict() == spec.to_dict()


def test_values_that_are_no_trial_are_refused(compose_study: ComposeStudy) -> None:
    values = TrialSpec(0, 0, {}, compose_study().trial_config(), Path("trial")).to_dict()
    for name in values:
        with pytest.raises(KeyError, match=name):
            TrialSpec.from_dict({key: value for key, value in values.items() if key != name})


def test_trials_that_train_alone_have_no_geometry(compose_study: ComposeStudy) -> None:
    def geometry(*overrides: str) -> object:
        return TrialSpec(0, 0, {}, compose_study(*overrides).trial_config(), Path("trial")).geometry

    assert geometry("adapter=dora") is None
    assert geometry("adapter.rank=2") == geometry("adapter.rank=32", "optimizer.lr=0.5") is not None
    assert geometry("training.max_length=64") != geometry("training.max_length=65")


def test_a_new_record_is_of_the_trial(compose_study: ComposeStudy) -> None:
    config = compose_study().trial_config()
    record = TrialSpec(7, 3, {"adapter.rank": 8}, config, Path("trial")).new_record(Status.SKIPPED, "too large")
    assert record == TrialRecord(7, Status.SKIPPED, 3, {"adapter.rank": 8}, config.to_dict(), reason="too large")


def test_it_needs_no_torch() -> None:
    program = "import sys, sweeplab.config.trial_spec; sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True, timeout=200)
