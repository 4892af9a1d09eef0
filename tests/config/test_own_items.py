"""A user's own file of questions: every mistake is one line that names file, line, field and remedy."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from sweeplab.config.compatible import check_trial
from sweeplab.config.given import refuse_code_of_files
from sweeplab.config.own_items import check_own, read_items
from sweeplab.config.tasks import check_objectives
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import settings
from tests.study_runs import ComposeStudy, compose_study, hydra
from tests.trials import Compose

__all__ = ["compose_study", "hydra"]  # rooms of the study's tests

ASKED: Final = {"question": "2+2?"}
GOOD: Final[dict[str, list[dict[str, Any]]]] = {
    "exact": [{"answer": "4"}, {"answer": ["4", "four"], "more": [1]}],
    "number": [{"answer": 4}, {"answer": "4.0e0"}, {"answer": [4, "-5"]}],
    "regex": [{"answer": "^4$"}],
    "choice": [{"answer": "4", "choices": ["3", "4"]}, {"answer": 0, "choices": ["3", "4", "5"]}],
    "choice_generated": [{"answer": "4", "choices": ["3", "4"]}],
    "json": [{"schema": {"type": "integer"}}, {"schema": {"$ref": "#/$defs/a", "$defs": {"a": {}}}}],
    "f1": [{"answer": "four"}],
    "rouge_l": [{"answer": ["four"]}],
    "math:isqrt": [{}, {"answer": {"any": "thing"}}],
}
BAD: Final[list[tuple[str, dict[str, Any], str]]] = [
    ("exact", {}, r"field 'answer' is missing; give the right answer"),
    ("exact", {"answer": 4}, r"field 'answer' must be a text, or a list of them; put it in quotes"),
    ("exact", {"answer": []}, r"field 'answer' must be a text"),
    ("f1", {"answer": " "}, r"field 'answer' must be a text"),
    ("number", {"answer": "4 m"}, r"field 'answer' must be a number, or a list of them; write it without a unit"),
    ("number", {"answer": True}, r"field 'answer' must be a number"),
    ("number", {"answer": float("nan")}, r"field 'answer' must be a number"),
    ("regex", {"answer": "(4"}, r"field 'answer' is no regular expression \(missing \), .*\); mend it"),
    (
        "regex",
        {"answer": "a{99999999999999999999}"},
        r"field 'answer' is no regular expression \(the repetition number",
    ),
    ("regex", {"answer": "(" * 4000 + ")" * 4000}, r"field 'answer' is no regular expression \(maximum recursion"),
    (
        "rouge_l",
        {"answer": ["four", "\u0447\u0435\u0442\u044b\u0440\u0435"]},
        r"field 'answer' has none of a-z and 0-9",
    ),
    ("choice", {"answer": "4"}, r"field 'choices' must be a list of two or more different texts"),
    ("choice", {"answer": "4", "choices": ["4", "4"]}, r"field 'choices' must be a list of two or more different"),
    ("choice", {"answer": "4", "choices": ["4", 5]}, r"field 'choices' must be a list"),
    ("choice", {"answer": "6", "choices": ["4", "5"]}, r"field 'answer' must be one of choices, or its place"),
    ("choice_generated", {"answer": 2, "choices": ["4", "5"]}, r"field 'answer' must be one of choices, or its place"),
    ("choice", {"answer": True, "choices": ["4", "5"]}, r"field 'answer' must be one of choices"),
    ("json", {}, r"field 'schema' is missing; give a JSON schema in every line, or one with evaluation\.schema_path"),
    ("json", {"schema": {"type": "whole"}}, r"field 'schema' is no JSON schema \('whole' is not valid"),
    ("json", {"schema": {"$ref": "http://a/b"}}, r"field 'schema' is no JSON schema \(\$ref: http://a/b is not within"),
    ("exact", {"question": None, "answer": "4"}, r"field 'question' must be a text; give one, or messages"),
    ("exact", {"question": 3, "answer": "4"}, r"field 'question' must be a text"),
    ("exact", {"messages": [], "answer": "4"}, r"field 'question' stands beside messages; keep one of the two"),
    (
        "exact",
        {"question": None, "messages": [{"role": "user", "content": "a"}], "answer": "4"},
        r"field 'messages' needs the tokenizer's chat template; add evaluation\.apply_chat_template=true",
    ),
    (
        "exact",
        {"question": None, "messages": [{"role": "human", "content": "a"}], "answer": "4"},
        r"field 'messages' must be a list of messages, each with a role \(system, user, assistant\)",
    ),
    (
        "exact",
        {"question": None, "messages": [{"role": "assistant", "content": "a"}], "answer": "4"},
        r"field 'messages' must end with one of the user",
    ),
]


def write(path: Path, *items: Any) -> str:
    path.write_text("".join(f"{json.dumps(one) if not isinstance(one, str) else one}\n" for one in items))
    return str(path)


def own(path: str, score: str, **changes: Any) -> Any:
    return settings("own", path=path, score=score, **changes)


@pytest.mark.parametrize("score", GOOD)
def test_a_good_file_is_read_as_it_stands(score: str, tmp_path: Path) -> None:
    items = [{**ASKED, **item} for item in GOOD[score]]
    path = write(tmp_path / "items.jsonl", *items, "", "  ")
    asked = own(path, score)
    check_own(asked)
    assert read_items(asked) == items


@pytest.mark.parametrize(("score", "item", "message"), BAD)
def test_a_mistake_is_named_with_its_line(score: str, item: dict[str, Any], message: str, tmp_path: Path) -> None:
    good = {**ASKED, **GOOD[score][0]}
    bad = {name: value for name, value in {**ASKED, **item}.items() if value is not None}
    path = write(tmp_path / "items.jsonl", good, "", bad)
    with pytest.raises(ConfigError, match=rf"^evaluation\.path: \S*items\.jsonl, line 3: {message}") as caught:
        check_own(own(path, score))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], r"line 1: is not valid JSON \(.*\); write one object a line"),
        (['{"question": "a", "answer": "b", "answer": "c"}'], r"line 1: is not valid JSON \(the field 'answer' stands"),
        (["[1]"], r"line 1: must be an object with question and answer; mend the line"),
        (["", " "], r"items\.jsonl is empty; write one object"),
        (["[" * 100_000], r"line 1: is not valid JSON"),
    ],
)
def test_what_is_no_json_lines_is_named(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        check_own(own(write(tmp_path / "items.jsonl", *lines), "exact"))


def test_bytes_that_are_no_utf8_are_refused_and_a_mark_is_not(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({**ASKED, "answer": "4"}).encode())
    assert len(read_items(own(str(path), "exact"))) == 1
    path.write_bytes("\n".join([json.dumps({**ASKED, "answer": "\u00e9"}, ensure_ascii=False)] * 3).encode("utf-16"))
    assert [item["answer"] for item in read_items(own(str(path), "exact"))] == ["\u00e9"] * 3
    path.write_bytes(b'{"question": "\xe9"}')
    with pytest.raises(ConfigError, match=r"items\.jsonl cannot be read as UTF-8 or UTF-16 text: .*; save it in UTF-8"):
        read_items(own(str(path), "exact"))


def test_a_schema_for_all_stands_alone(tmp_path: Path) -> None:
    schema = write(tmp_path / "schema.json", '{"type": "integer"}')
    check_own(own(write(tmp_path / "items.jsonl", ASKED), "json", schema_path=schema))
    path = write(tmp_path / "both.jsonl", {**ASKED, "schema": {}})
    with pytest.raises(ConfigError, match=r"line 1: field 'schema' stands beside evaluation\.schema_path"):
        check_own(own(path, "json", schema_path=schema))
    for text in ('{"type": 3}', "[]", "{"):
        with pytest.raises(ConfigError, match=r"^evaluation\.schema_path must be a JSON schema \(.*\), got .*; mend"):
            check_own(own(path, "json", schema_path=write(tmp_path / "bad.json", text)))


PATH: Final = "evaluation.path={path}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluation=own"], r"^evaluation\.path is missing; choose evaluation=own, and give a file of JSON lines"),
        (
            ["evaluation=own", "evaluation.path=nowhere"],
            r"^evaluation\.path must be a file, got nowhere; check",
        ),
        ([PATH], r"^evaluation\.path has no effect while evaluation\.tasks=\[.*\] lacks own, got .*; add own to the"),
        (["evaluation=own", PATH, "evaluation.score=exakt"], r"^evaluation\.score is unknown, got 'exakt'; choose one"),
        (
            ["evaluation=own", PATH, "evaluation.score=f1", "evaluation.normalize=true"],
            r"^evaluation\.normalize has no effect with evaluation\.score=f1, got true; use false, or score=exact",
        ),
        (
            ["evaluation=own", PATH, "evaluation.tolerance=0.1"],
            r"^evaluation\.tolerance has no effect with evaluation\.score=exact, got 0\.1; choose evaluation\.score=",
        ),
        (
            ["evaluation=own", PATH, "evaluation.score=choice", "evaluation.max_tokens=9"],
            r"^evaluation\.max_tokens has no effect while evaluation\.score=choice",
        ),
        (
            ["evaluation=own", PATH, "evaluation.apply_chat_template=true", "evaluation.prompt=Q{question}"],
            r"^evaluation\.prompt has no effect while evaluation\.apply_chat_template=true",
        ),
        (
            ["evaluation=own", PATH, "evaluation.prompt=Q:"],
            r"^evaluation\.prompt must be a text with \{question\}, got Q:; give one, or choose from plain, alpaca",
        ),
        (
            ["evaluation=own", PATH, "data.style=template"],
            r"^evaluation\.prompt=template, as data\.style, is the tokenizer's chat template; add evaluation",
        ),
        (["evaluation=own", PATH, "evaluation.extract=(a"], r"^evaluation\.extract must be a regular expression \(mis"),
        (
            ["evaluation=own", PATH, "evaluation.num_fewshot=1"],
            r"^evaluation\.num_fewshot must be at most 0, the items of evaluation\.path other than the one that is as",
        ),
        (
            ["evaluation=own", PATH, "evaluation.score=no_such_module:f"],
            r"^evaluation\.score must name a module that Python finds from here, got no_such_module; check",
        ),
        (
            ["evaluation=own", PATH, "study.objectives=[scores.own.acc]"],
            r"^study\.objectives must name what evaluation\.score=exact measures, got scores\.own\.acc; use scores",
        ),
        (["model=tiny_vit", "data=digits", "evaluation=own", PATH], r"^evaluation.tasks with data=digits is unknown"),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line(
    overrides: list[str], message: str, tmp_path: Path, compose_study: ComposeStudy
) -> None:
    path = write(tmp_path / "items.jsonl", {**ASKED, "answer": "b", "choices": ["a", "b"]})
    said = [one.format(path=path) if one == PATH else one for one in overrides]
    objectives = [] if any("objectives" in one for one in said) else ["study.objectives=[heldout_loss_nats_per_token]"]
    with pytest.raises(ConfigError, match=message) as caught:
        compose_study(*said, *objectives)
    assert "\n" not in str(caught.value)


def test_the_objective_is_what_the_score_measures() -> None:
    for score, name in (("number", "acc"), ("choice", "acc_norm"), ("json", "valid"), ("a:b", "score")):
        check_objectives([f"scores.own.{name}"], own("items.jsonl", score))
    with pytest.raises(ConfigError, match=r"must name what evaluation\.tasks=\[tiny_new_facts\] measures"):
        check_objectives(["scores.own.acc"], settings("tiny_new_facts"))


def test_a_function_is_named_by_who_types_the_command(tmp_path: Path, compose_trial: Compose) -> None:
    path = write(tmp_path / "items.jsonl", ASKED)
    asked = ["evaluation=own", f"evaluation.path={path}"]
    config = compose_trial(*asked, "evaluation.score=math:isqrt")
    check_trial(config)
    must = r"^evaluation\.score must be typed: no experiment, axis or record may say that Python code scores, got math:"
    with pytest.raises(ConfigError, match=must):
        compose_trial(*asked, **{"evaluation.score": "math:isqrt"})
    with pytest.raises(ConfigError, match=must):
        refuse_code_of_files(config, asked)


def test_few_shot_examples_are_answers_that_there_are(tmp_path: Path) -> None:
    twice = [{**ASKED, "answer": "4"}] * 2 + [{"question": "3+3?", "answer": "6"}]
    path = write(tmp_path / "items.jsonl", *twice)
    check_own(own(path, "exact", num_fewshot=1))
    with pytest.raises(ConfigError, match=r"num_fewshot must be at most 1, the items .* is asked, got 2; lower it"):
        check_own(own(path, "exact", num_fewshot=2))
    with pytest.raises(ConfigError, match=r"num_fewshot goes with answers that can be shown, .* got 1; write the exam"):
        check_own(own(path, "regex", num_fewshot=1))
    check_own(own(path, "regex"))
    schemas = [{**ASKED, "answer": {"a": 1}, "schema": {}}, {**ASKED, "schema": {}}]
    path = write(tmp_path / "schemas.jsonl", *schemas)
    with pytest.raises(ConfigError, match=r"num_fewshot shows the answers of other items, got 1; give item 2 of eval"):
        check_own(own(path, "json", num_fewshot=1))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "items.jsonl", {**ASKED, "answer": "b"})
    assert len(read_items(own(path, "exact"))) == 1
    write(tmp_path / "items.jsonl", {**ASKED, "answer": "b"}, {**ASKED, "answer": "c"})
    assert len(read_items(own(path, "exact"))) == 2
