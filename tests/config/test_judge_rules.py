"""What a judge does not go with is refused in one line; nothing is sent but on the user's own request."""

import json
from pathlib import Path

import pytest

from sweeplab.config.compatible import check_trial
from sweeplab.config.given import refuse_code_of_files
from sweeplab.config.own_items import read_items
from sweeplab.config.tasks import check_objectives
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import settings
from tests.study_runs import ComposeStudy, compose_study, hydra
from tests.trials import Compose

__all__ = ["compose_study", "hydra"]  # rooms of the study's tests

URL = "evaluation.judge_url=https://judge.example/v1"
OBJECTIVE = "study.objectives=[scores.own.win_rate]"


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"question": "a?"}) + "\n")
    return ["evaluation=judge", f"evaluation.path={path}", "evaluation.judge_model=m", OBJECTIVE]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"^evaluation\.judge_url is missing; give an OpenAI-compatible address: evaluation\.judge_url=https://H"),
        (
            ["evaluation.judge_url=http://judge.example/v1"],
            r"^evaluation\.judge_url must be an address that begins with https://, or on this machine http://.* got ht",
        ),
        (["evaluation.judge_url=https://a:hidden@b/v1"], r"got https://a:\*\*\*@b/v1; try https://HOST/v1$"),
        ([URL, "evaluation.judge_model=null"], r"^evaluation\.judge_model is missing; give the judge's name there"),
        (
            [URL, "evaluation.judge_reference=teacher"],
            r"^evaluation\.judge_reference is unknown, got 'teacher'; ",
        ),
        (
            [URL, "evaluation.rung_tasks=[own]", "training.heldout_interval=2"],
            r"^evaluation\.rung_tasks must leave out own with evaluation\.score=judge, .* got \[own\]; drop own$",
        ),
        ([URL, "evaluation.judge_reference=answer"], r"line 1: field 'answer' is missing; give the right answer"),
        (
            [URL, "++space.quantization.choices=[nf4,none]"],
            r"^space\.quantization changes the base, whose responses all trials are compared with \(eval",
        ),
        (
            [URL, "++space.evaluation.judge_model.choices=[m,n]"],
            r"^space\.evaluation\.judge_model must leave the evaluation alone with evaluation\.score=judge",
        ),
        (
            [URL, "training.strategy=ddp", "training.num_devices=2"],
            r"^training\.num_devices must be 1 with evaluation\.score=judge, got 2; use training\.num_devices=1",
        ),
        ([URL, "study.objectives=[scores.own.first_rate]"], r"must name what evaluation\.score=judge measures"),
    ],
)
def test_a_mistake_is_one_line(
    overrides: list[str], message: str, asked: list[str], compose_study: ComposeStudy
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        compose_study(*asked, *overrides)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_answers_as_reference_allow_any_base(asked: list[str], tmp_path: Path, compose_study: ComposeStudy) -> None:
    (tmp_path / "items.jsonl").write_text(json.dumps({"question": "a?", "answer": "b"}) + "\n")
    varied = ["evaluation.judge_reference=answer", "++space.quantization.choices=[nf4,none]"]
    config = compose_study(*asked, URL, *varied)
    assert read_items(config.evaluation) == [{"question": "a?", "answer": "b"}]


def test_only_who_types_the_command_names_an_address_and_a_key(asked: list[str], compose_trial: Compose) -> None:
    typed = [*asked[:3], URL, "evaluation.judge_key_variable=JUDGE_KEY"]
    config = compose_trial(*typed)
    check_trial(config)
    for left_out, key in ((3, "judge_url"), (4, "judge_key_variable")):
        must = rf"^evaluation\.{key} must be typed: no experiment, axis or record may say"
        with pytest.raises(ConfigError, match=must):
            refuse_code_of_files(config, [one for place, one in enumerate(typed) if place != left_out])


def test_a_judge_is_nowhere_by_default(compose_trial: Compose) -> None:
    for chosen in ([], ["evaluation=none"], ["evaluation=lora_insights"]):
        asked = compose_trial(*chosen).evaluation
        assert (asked.score, asked.judge_url) == (None, None)
        assert not [key for key in asked.to_dict() if key.startswith("judge")]


def test_win_rate_is_what_a_judge_measures() -> None:
    asked = settings("own", path="f", score="judge", judge_url="https://a/v1", judge_model="m")
    check_objectives(["scores.own.win_rate"], asked)
    assert asked.own_metrics == ("win_rate",)
