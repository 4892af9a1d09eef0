"""What a study reads must stay what it was under the same names."""

from typing import Any

import pytest

from sweeplab.records.inputs import KnownInputs, refuse_changed_inputs
from sweeplab.records.record import Status, TrialRecord
from sweeplab.runtime.errors import StudyRefused

CONFIG: dict[str, Any] = {
    "model": {"source": "local", "path": "base"},
    "data": {"source": "json", "path": "d.json"},
    "evaluation": {"data_dir": "tasks", "limit": 4},
}
READ = {
    "base_fingerprint": "sha256:b",
    "settings_fingerprint": "sha256:s",
    "data_fingerprint": "d0",
    "tasks_fingerprint": "sha256:t",
    "commit": "c",
}


def record_of(config: dict[str, Any], provenance: dict[str, Any]) -> TrialRecord:
    return TrialRecord(0, Status.FINISHED, 0, {}, config, provenance=provenance)


@pytest.fixture
def known() -> KnownInputs:
    inputs = KnownInputs()
    inputs.note(record_of(CONFIG, READ))
    return inputs


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("base_fingerprint", "model.path=base"),
        ("settings_fingerprint", "model.path=base"),
        ("data_fingerprint", "data.path=d.json"),
        ("tasks_fingerprint", "evaluation.data_dir=tasks"),
    ],
)
def test_each_input_is_named_with_both_fingerprints(known: KnownInputs, name: str, source: str) -> None:
    refuse_changed_inputs(CONFIG, known.find(CONFIG), READ)
    with pytest.raises(StudyRefused, match=rf"^{source} has changed .*\(fingerprint {READ[name]}, now other\); put"):
        refuse_changed_inputs(CONFIG, known.find(CONFIG), READ | {name: "other"})


def test_other_names_are_other_inputs(known: KnownInputs) -> None:
    other = CONFIG | {"data": {"source": "json", "path": "other.json"}}
    assert known.find(other) == {
        name: value for name, value in READ.items() if name not in ("data_fingerprint", "commit")
    }
    assert known.find(CONFIG | {"evaluation": {"data_dir": "tasks", "limit": 8}}) == known.find(CONFIG)


def test_the_first_that_was_read_stays(known: KnownInputs) -> None:
    known.note(record_of(CONFIG, READ | {"data_fingerprint": "later"}))
    assert known.find(CONFIG)["data_fingerprint"] == "d0"


def test_weights_that_each_device_draws_by_itself_are_no_input() -> None:
    inputs = KnownInputs()
    inputs.note(record_of(CONFIG, {"base_fingerprint": "random:0"}))
    inputs.note(record_of(CONFIG, {}))
    assert inputs.find(CONFIG) == {}


@pytest.mark.parametrize("named", [{"include_path": "mine"}, {"path": "q.jsonl", "score": "exact"}])
def test_files_of_a_users_own_tasks_are_inputs_by_their_names(named: dict[str, Any]) -> None:
    config = CONFIG | {"evaluation": {"data_dir": None, **named}}
    inputs = KnownInputs()
    inputs.note(record_of(config, READ))
    assert inputs.find(config)["tasks_fingerprint"] == READ["tasks_fingerprint"]
    others = [{"data_dir": None}, {"data_dir": "mine"}, *({"data_dir": None, **named, key: "other"} for key in named)]
    for other in others:
        assert "tasks_fingerprint" not in inputs.find(CONFIG | {"evaluation": other})
    key, value = next(iter(named.items()))
    with pytest.raises(StudyRefused, match=rf"^evaluation\.{key}={value} has changed since this study began"):
        refuse_changed_inputs(config, inputs.find(config), READ | {"tasks_fingerprint": "other"})
