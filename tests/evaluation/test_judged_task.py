"""The task `own` with a judge: win rate and preference for a place come out as they were built in."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.evaluation.catalog import TaskError, load_tasks
from sweeplab.evaluation.harness import run_lm_eval
from sweeplab.evaluation.judge import Judge
from sweeplab.evaluation.judged_task import UNASKED, References, judging, read_base_responses, read_outcome
from sweeplab.evaluation.results import Evaluation
from sweeplab.models.base import Base
from tests.evaluation.conftest import evaluated, settings
from tests.judges import standin_judge

NUM_ITEMS: Final = 40
REFERENCE: Final = "the reference"


def decide(request: str, first: str, second: str) -> str:
    """By the number of the item: of ten, four prefer the first place, four the response, one the reference, and of one
    there is no verdict."""
    kind = int(request.split()[1]) % 10
    if kind < 4:
        return "[[A]]"
    if kind == 9:
        return "I cannot say"
    return "[[A]]" if (first == REFERENCE) == (kind == 8) else "[[B]]"


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = tmp_path / "items.jsonl"
    items = [{"question": f"item {n} of many?", "answer": REFERENCE} for n in range(NUM_ITEMS)]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(path)


def asking(path: str, url: str, **changes: Any) -> EvaluationConfig:
    given: dict[str, Any] = {"path": path, "score": "judge", "judge_url": url, "judge_model": "m"}
    given |= {"max_tokens": 4, "limit": None}
    return settings("own", prompt="plain", **given | changes)


def judged(base: Base, asked: EvaluationConfig, references: References | None) -> Evaluation:
    (made,) = run_lm_eval(base.model, base.tokenizer, asked, 1, lambda _: nullcontext(), references=references)
    return made


def values_of(made: Evaluation, metric: str) -> list[float]:
    return [row["metrics"][metric] for row in made.items]


@pytest.mark.parametrize("reference", ["base", "answer"])
def test_win_rate_and_place_are_those_that_were_built_in(
    reference: str, embedded_base: Base, path: str, tmp_path: Path
) -> None:
    with standin_judge(decide) as stand:
        asked = asking(path, stand.url, judge_reference=reference)
        base = dict.fromkeys(range(NUM_ITEMS), REFERENCE) if reference == "base" else None
        made = judged(embedded_base, asked, References(Judge(asked, tmp_path), base))
        assert len(stand.asked) == 2 * NUM_ITEMS
    wins = [[0.5] * 4 + [1.0] * 4 + [0.0, 0.5]] * 4
    assert values_of(made, "win_rate") == np.ravel(wins).tolist()
    assert values_of(made, "first_rate") == [1.0, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5] * 4
    assert values_of(made, "unreadable") == [0.0] * 9 + [1.0] + ([0.0] * 9 + [1.0]) * 3
    score = made.scores["own"]["win_rate"]
    assert score.value == pytest.approx(0.65)
    assert score.num_items == NUM_ITEMS
    assert score.stderr == pytest.approx(np.std(wins, ddof=1) / NUM_ITEMS**0.5)
    assert made.scores["own"]["first_rate"].value == pytest.approx(0.7)
    place, lost = made.notes
    assert place.startswith("warning: the judge prefers the response that is shown first: it took the response shown")
    assert lost == "8 of at most 80 verdicts could not be read, and their items are ties"


def test_a_fair_judge_is_not_warned_of(embedded_base: Base, path: str, tmp_path: Path) -> None:
    def fair(request: str, first: str, second: str) -> str:
        """One item in two by the place, and these by turns by the first and the second one."""
        kind = int(request.split()[1]) % 4
        return {0: "[[A]]", 1: "[[B]]"}.get(kind, "[[B]]" if first == REFERENCE else "[[A]]")

    with standin_judge(fair) as stand:
        asked = asking(path, stand.url, judge_reference="answer")
        made = judged(embedded_base, asked, References(Judge(asked, tmp_path), None))
    assert made.scores["own"]["win_rate"].value == pytest.approx(0.75)
    assert made.scores["own"]["first_rate"].value == pytest.approx(0.5)
    (place,) = made.notes
    assert place.startswith(
        "the judge shows no preference for a place: it took the response shown first in 0.500 of 40"
    )


def test_the_base_against_itself_and_equal_texts_ask_nobody(embedded_base: Base, path: str, tmp_path: Path) -> None:
    asked = asking(path, "http://localhost:1/v1")  # nobody is there
    made = evaluated(embedded_base.model, embedded_base.tokenizer, asked)
    assert values_of(made, "win_rate") == [0.5] * NUM_ITEMS
    file = tmp_path / "base.items.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [{"metric": "a", "sums": []}, *made.items]))
    base = read_base_responses(file)
    again = judged(embedded_base, asked, References(Judge(asked, tmp_path), base))
    assert again.items == made.items
    assert not (tmp_path / "verdicts").exists()


def test_a_judge_that_fails_fails_the_task_alone(embedded_base: Base, path: str, tmp_path: Path) -> None:
    with standin_judge(decide) as stand:
        stand.failures = [403] * 1000
        asked = asking(path, stand.url, judge_reference="answer")
        with pytest.raises(TaskError, match=r"^own cannot score an answer: JudgeError: the judge at .* answered 403"):
            judged(embedded_base, asked, References(Judge(asked, tmp_path), None))
    made = evaluated(embedded_base.model, embedded_base.tokenizer, asked)  # nothing of the judge is left in the task
    assert values_of(made, "win_rate") == [0.5] * NUM_ITEMS


def test_no_judge_is_left_in_tasks_that_others_score(path: str, tmp_path: Path) -> None:
    asked = asking(path, "http://localhost:1/v1")
    loaded = load_tasks(asked)
    (task,) = loaded["tasks"].values()
    references = References(Judge(asked, tmp_path), {})
    with judging(loaded, references):
        assert task.references is references
    assert task.references is None


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (("A", "B"), (1.0, 0.5, 0.0)),
        (("B", "A"), (0.0, 0.5, 0.0)),
        (("A", "A"), (0.5, 1.0, 0.0)),
        (("B", "B"), (0.5, 0.0, 0.0)),
        (("C", "C"), tuple(UNASKED)),
        (("A", "C"), (0.5, 0.75, 0.0)),
        (("C", "B"), (0.5, 0.25, 0.0)),
        ((None, "B"), (0.5, 0.5, 0.5)),
        ((None, None), (0.5, 0.5, 1.0)),
    ],
)
def test_an_outcome_needs_both_orders(verdicts: tuple[str | None, str | None], outcome: tuple[float, ...]) -> None:
    assert read_outcome(*verdicts) == outcome
