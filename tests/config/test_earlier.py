"""Records and studies of before a key mean what they meant."""

from pathlib import Path
from typing import Any

import pytest

from sweeplab.config.earlier import make_comparable
from sweeplab.config.parse import trial_config_from_dict
from tests.trials import Compose

FORMER = {"instruction_field": "instruction", "input_field": "input", "output_field": "output", "messages_field": None}


@pytest.fixture
def now(compose_trial: Compose, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "a.json").write_text("[]")
    return compose_trial("data=json", f"data.path={tmp_path / 'a.json'}").to_dict()


def write_earlier(now: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """As it was recorded before fields were known by themselves and records skipped."""
    data = {key: value for key, value in now["data"].items() if key not in ("max_skipped", "targets")}
    return {**now, "data": {**data, **FORMER, **changes}}


def test_an_earlier_record_reads_the_fields_that_it_named_and_cuts_without_limit(now: dict[str, Any]) -> None:
    data = trial_config_from_dict(write_earlier(now)).data
    assert data.record_fields == ("instruction", "output", "input", None)
    assert data.max_skipped == 1


def test_of_an_earlier_conversation_the_last_answer_is_learned(now: dict[str, Any]) -> None:
    chats = {"messages_field": "messages", "instruction_field": None, "input_field": None, "output_field": None}
    assert trial_config_from_dict(write_earlier(now, **chats)).data.targets == "last"
    asked = {**now, "data": {**now["data"], **chats}}
    assert asked["data"]["targets"] == "all"
    assert make_comparable(write_earlier(now, **chats)) != make_comparable(asked)
    asked["data"]["targets"] = "last"
    assert make_comparable(write_earlier(now, **chats)) == make_comparable(asked)


def test_what_is_recorded_now_comes_back_as_it_is(now: dict[str, Any], compose_trial: Compose) -> None:
    assert trial_config_from_dict(now).to_dict() == now
    assert now["data"]["max_skipped"] == 0.01
    world = compose_trial().to_dict()
    assert trial_config_from_dict(world).to_dict() == make_comparable(world) == world


def test_an_earlier_study_goes_on(now: dict[str, Any]) -> None:
    assert make_comparable(write_earlier(now)) == make_comparable(now)


@pytest.mark.parametrize(
    "changes",
    [{"output_field": "answer"}, {"heldout_fraction": 0.5}, {"messages_field": "messages"}, {"style": "plain"}],
)
def test_what_changes_the_data_is_another_experiment(now: dict[str, Any], changes: dict[str, Any]) -> None:
    assert make_comparable(write_earlier(now, **changes)) != make_comparable(now)
