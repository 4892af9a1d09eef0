"""`--json`: what programs read is all that goes to stdout, and fits the committed schemas."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sweeplab.records.events import write_event_schema
from sweeplab.records.plan import write_plan_schema
from tests.hostile import answer
from tests.study_runs import QUICK, Standin

DOCS = Path(__file__).parents[2] / "docs"
TWO = ("space.adapter.rank.choices=[1,2]", "study.name=mine")


def validate(schema: str, value: Any) -> None:
    Draft202012Validator(json.loads((DOCS / schema).read_text(encoding="utf-8"))).validate(value)


@pytest.mark.parametrize(
    ("name", "text"), [("plan.schema.json", write_plan_schema()), ("watch.schema.json", write_event_schema())]
)
def test_the_committed_schemas_are_current_and_are_ones(name: str, text: str) -> None:
    """Else: python -m sweeplab.records.plan > docs/plan.schema.json, and records.events > docs/watch.schema.json."""
    assert (DOCS / name).read_text(encoding="utf-8") == text
    Draft202012Validator.check_schema(json.loads(text))


def test_a_plan_is_one_document_which_is_kept_too(tmp_path: Path) -> None:
    found = answer([*QUICK, *TWO, "action=plan", "plan.device_memory=14GB", "--json"], tmp_path)
    assert (found.code, found.err) == (0, "")
    plan = json.loads(found.out)
    validate("plan.schema.json", plan)
    assert (plan["num_trials"], [row["params"] for row in plan["rows"]]) == (
        2,
        [{"adapter.rank": 1}, {"adapter.rank": 2}],
    )
    assert [row["fit"] for row in plan["rows"]] == ["fits", "fits"]
    assert json.loads((tmp_path / "runs" / "mine" / "plan.json").read_text()) == plan


def test_a_sampler_s_plan_of_the_hub_s_data_fits_the_schema_too(tmp_path: Path) -> None:
    drawn = ("sampler=tpe", "study.num_trials=4", "space.optimizer.lr={low: 1e-4, high: 1e-2, log: true}")
    found = answer([*QUICK, *drawn, "data=alpaca", "executor.device=cuda", "action=plan", "output=json"], tmp_path)
    plan = json.loads(found.out)
    validate("plan.schema.json", plan)
    assert plan["rows"][0]["data"]["num_examples"] is plan["train_seconds"] is None


@pytest.mark.parametrize("flag", ["--json", "output=json"])
@pytest.mark.parametrize("action", ["action=plan", "action=watch", "action=run"])
def test_a_mistake_leaves_stdout_empty(action: str, flag: str, tmp_path: Path) -> None:
    found = answer([*QUICK, action, flag, "adapter.rnak=4"], tmp_path)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)


def test_once_is_too_early_before_a_study_begins(tmp_path: Path) -> None:
    found = answer([*QUICK, "action=watch", "watch.once=true", "--json"], tmp_path)
    assert (found.code, found.out) == (2, "")
    assert "holds no study yet" in found.err


def test_what_has_no_json_refuses_it(tmp_path: Path) -> None:
    found = answer([*QUICK, "action=export", "trial=0", "export.path=out", "--json"], tmp_path)
    assert found.code == 2
    assert found.err.startswith("sweeplab: output has no effect with action=export, got json; ")


def test_other_words_for_it_are_answered_with_it(tmp_path: Path) -> None:
    for typed, line in (("json=true", "type --json"), ("--output=json", "write output=json, without dashes")):
        assert answer(["action=plan", typed], tmp_path).err.endswith(f"; {line}\n")


def test_a_run_prints_its_answer_watch_its_events_and_compare_both(standin: Standin, tmp_path: Path) -> None:
    standin.plan(diverge=[1])
    code, out, err = standin.run_cli(tmp_path, *TWO, "--json")
    assert code == 0, err
    assert "trial 1" in err
    validate("answer.schema.json", json.loads(out))
    assert out == (tmp_path / "reports" / "mine" / "answer.json").read_text()

    watched = answer([*QUICK, *TWO, "action=watch", "--json"], tmp_path)
    events = [json.loads(line) for line in watched.out.splitlines()]
    for event in events:
        validate("watch.schema.json", event)
    assert (watched.code, watched.err) == (0, "")
    assert [(one["event"], one.get("number"), one.get("status")) for one in events] == [
        ("trial", 0, "finished"),
        ("trial", 1, "diverged"),
        ("study", None, None),
    ]
    assert (events[-1]["state"], events[-1]["num_ended"]) == ("ended", 2)
    assert events[1]["values"] == {"heldout_loss_nats_per_token": None}

    assert standin.run_cli(tmp_path, "adapter.rank=4", "study.name=other")[0] == 0
    listed = answer([*QUICK, "action=list", "--json"], tmp_path)
    assert [json.loads(line)["study"] for line in listed.out.splitlines()] == ["mine", "other"]
    compared = answer([*QUICK, "action=compare", "studies=[mine,other]", "--json"], tmp_path)
    validate("answer.schema.json", json.loads(compared.out))
    assert json.loads(compared.out)["study"] == "mine and other"
    again = answer([*QUICK, *TWO, "action=report", "--json"], tmp_path)
    assert json.loads(again.out)["study"] == "mine"
