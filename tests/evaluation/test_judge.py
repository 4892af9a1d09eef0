"""A judge is asked each question once, tried again where it is busy, and refused in one line where it is not there."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.evaluation import judge as judge_module
from sweeplab.evaluation.judge import (
    Judge,
    JudgeError,
    Question,
    describe_requests,
    read_verdict,
    refuse_unreachable_judge,
)
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import settings
from tests.judges import standin_judge

QUESTIONS = [Question(f"{n}?", f"one {n}", f"two {n}") for n in range(20)]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "_BACKOFF_SECONDS", 0.0)


def asking(url: str, **changes: Any) -> EvaluationConfig:
    """Of a file that is not read here."""
    return settings("own", path="items.jsonl", score="judge", judge_url=url, judge_model="m", **changes)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[[A]]", "A"),
        ("Because it is right: [[ B ]].", "B"),
        ("[[C]]", "C"),
        ("<think>[[A]] or [[B]]?</think>\n[[B]]", "B"),
        ("b", "B"),
        ("**A**", "A"),
        ("Verdict: C", "C"),
        ("[[A]] and [[B]]", None),
        ("[[D]]", None),
        ("A good question", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_or_none(text: str, verdict: str | None) -> None:
    assert read_verdict(text) == verdict


def test_texts_stand_where_they_belong_whatever_is_in_them() -> None:
    prompt = Question("{first} \\1", "{second}", "[[A]] {question}").write()
    parts = ("<request>\n{first} \\1\n</request>", "A>\n{second}\n</", "B>\n[[A]] {question}\n</")
    assert all(part in prompt for part in parts)


def test_each_question_is_asked_once_in_a_study(tmp_path: Path) -> None:
    with standin_judge(lambda request, first, second: "[[A]]" if "1" in request else "?") as stand:
        asked = asking(stand.url)
        found = Judge(asked, tmp_path).compare([*QUESTIONS, *QUESTIONS[:3]])
        assert found[:20] == ["A" if "1" in one.request else None for one in QUESTIONS]
        assert sorted(stand.asked) == sorted(QUESTIONS)
        assert {json.dumps({**body, "messages": 0}) for body in stand.bodies} == {
            '{"model": "m", "messages": 0, "temperature": 0, "max_tokens": 1024}'
        }
        again = Judge(asked, tmp_path)
        assert again.compare(QUESTIONS) == found[:20]
        assert len(stand.asked) == 20
        turned = Question(QUESTIONS[0].request, QUESTIONS[0].second, QUESTIONS[0].first)
        again.compare([turned])  # another order
        Judge(asking(stand.url, judge_reference="answer"), tmp_path).compare(QUESTIONS)  # no part of what is asked
        assert len(stand.asked) == 21
        Judge(asked.replaced(judge_model="other"), tmp_path).compare(QUESTIONS[:2])
        assert len(stand.asked) == 23


def test_what_came_before_a_crash_is_kept(tmp_path: Path) -> None:
    with standin_judge(lambda *_: "[[B]]") as stand:
        first = Judge(asking(stand.url), tmp_path)
        first.compare(QUESTIONS)
        text = first.path.read_text()
        first.path.write_text(text[: len(text) - 20])  # the last line is cut
        assert Judge(asking(stand.url), tmp_path).compare(QUESTIONS) == ["B"] * 20
        assert len(stand.asked) == 21


def test_a_busy_judge_is_asked_again_and_a_broken_one_given_up(tmp_path: Path) -> None:
    with standin_judge(lambda *_: "[[A]]") as stand:
        stand.failures = [429, 503, 500, 502]
        assert Judge(asking(stand.url), tmp_path).compare(QUESTIONS[:1]) == ["A"]
        assert stand.failures == []
        stand.failures = [500] * 100
        with pytest.raises(JudgeError, match=r"^the judge at http://127\.0\.0\.1:\d+/v1 answered 500: not now$"):
            Judge(asking(stand.url), tmp_path).compare(QUESTIONS[1:2])
        assert len(stand.failures) == 94  # once and five times more
        stand.failures = [307]  # to where the texts and the key would go
        with pytest.raises(JudgeError, match=r"answered 307"):
            Judge(asking(stand.url), tmp_path).compare(QUESTIONS[2:3])
        assert stand.asked == [QUESTIONS[0]]
        stand.failures = [400]
        with pytest.raises(JudgeError, match=r"answered 400"):
            Judge(asking(stand.url), tmp_path).compare(QUESTIONS[2:3])


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with standin_judge(lambda *_: "[[A]]") as stand:
        stand.key = "sk-very-secret"
        asked = asking(stand.url, judge_key_variable="JUDGE_KEY")
        with pytest.raises(ConfigError, match=r"^evaluation\.judge_url: the environment variable JUDGE_KEY is not"):
            refuse_unreachable_judge(asked)
        for wrong, state in (
            ("sk-wrong", r"answered 401: wrong key: Bearer \*\*\*"),
            ("a\nb", "JUDGE_KEY holds no key"),
        ):
            monkeypatch.setenv("JUDGE_KEY", wrong)
            with pytest.raises(ConfigError, match=state) as caught:
                refuse_unreachable_judge(asked)
            assert wrong not in str(caught.value)
        monkeypatch.setenv("JUDGE_KEY", stand.key)
        refuse_unreachable_judge(asked)
        judge = Judge(asked, tmp_path)
        assert judge.compare(QUESTIONS) == ["A"] * 20
        assert stand.key not in judge.path.read_text() + caplog.text + str(asked.to_dict())


def test_a_judge_that_is_not_there_is_refused_in_one_line() -> None:
    with standin_judge(lambda *_: "[[A]]") as stand:
        url = stand.url
        with pytest.raises(ConfigError, match=r"answered 404: no such path; check evaluation\.judge_url"):
            refuse_unreachable_judge(asking(f"{url}/more"))
    with pytest.raises(ConfigError, match=rf"^evaluation\.judge_url: the judge at {url} gives no answer: ") as caught:
        refuse_unreachable_judge(asking(url))
    assert "\n" not in str(caught.value)


def test_the_plan_says_how_much_is_sent_and_where(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n}?"}) + "\n" for n in range(30)))
    asked = asking("https://a.b/v1").replaced(path=str(path), limit=None)
    (said,) = describe_requests(asked, 5)
    assert said.startswith("The judge: at most 60 requests a trial, 300 for 5 trials, to https://a.b/v1. The questions")
    assert "20 requests a trial," in describe_requests(asked.replaced(limit=10), 5)[0]
    assert describe_requests(settings("tiny_addition"), 5) == []
