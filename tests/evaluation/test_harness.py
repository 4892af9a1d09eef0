import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sweeplab.builtin.tasks import make_documents
from sweeplab.builtin.world import SKILLS, TARGETS, make_skill_items, render_plain_prompt
from sweeplab.evaluation import catalog
from sweeplab.evaluation.catalog import _choose_task_manager, load_tasks, make_task_manager
from sweeplab.evaluation.results import Evaluation, _list_item_rows, _name_metric, _read_scores
from sweeplab.models.base import Base
from sweeplab.records.items import read_trial_items
from sweeplab.records.store import write_json_lines
from sweeplab.runtime.errors import ConfigError
from tests.evaluation.conftest import evaluated, settings


@pytest.fixture(scope="module")
def evaluation(embedded_base: Base) -> Evaluation:
    """The base on what it does not know, so that scores lie between 0 and 1."""
    tasks = ("tiny_new_facts", "tiny_new_facts_choice", "tiny_operation_choice", "tiny_subtraction")
    return evaluated(embedded_base.model, embedded_base.tokenizer, settings(*tasks, limit=60))


class TestEmbeddedBase:
    @pytest.mark.parametrize("quantization", ["none", "nf4_dq"])
    def test_it_has_its_skills_and_lacks_the_targets(
        self, quantization: str, embedded_base: Base, nf4_base: Base
    ) -> None:
        base = {"none": embedded_base, "nf4_dq": nf4_base}[quantization]
        tasks = [f"tiny_{skill}" for skill in (*SKILLS, *TARGETS)]
        scores = evaluated(base.model, base.tokenizer, settings(*tasks)).scores
        accuracy = {task.removeprefix("tiny_"): values["exact_match"].value for task, values in scores.items()}
        assert accuracy.keys() == {*SKILLS, *TARGETS}
        assert all(accuracy[skill] >= 0.8 for skill in SKILLS), accuracy
        assert all(accuracy[target] <= 0.2 for target in TARGETS), accuracy


def test_scores_are_the_means_of_their_items(evaluation: Evaluation) -> None:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in evaluation.items:
        for metric, value in row["metrics"].items():
            values[row["task"], metric].append(float(value))
    scored = {(task, metric): score for task, metrics in evaluation.scores.items() for metric, score in metrics.items()}
    assert scored.keys() == values.keys()
    for key, items in values.items():
        assert scored[key].num_items == len(items) == 60
        assert scored[key].value == pytest.approx(sum(items) / 60, rel=1e-12)


def test_standard_errors_are_those_of_a_share(evaluation: Evaluation) -> None:
    shares = []
    for metrics in evaluation.scores.values():
        for score in metrics.values():
            p = score.value
            assert score.stderr == pytest.approx(math.sqrt(p * (1 - p) / (score.num_items - 1)), rel=1e-9)
            shares.append(p)
    assert any(0 < p < 1 for p in shares)


@torch.no_grad()
def answer(base: Base, prompt: str) -> str:
    """What the model writes by itself, one prompt at a time, without padding."""
    ids = base.tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
    model: Any = base.model
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
    text = base.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    assert isinstance(text, str)
    return text.split("\n")[0]


@pytest.mark.parametrize("skill", ["new_facts", "subtraction"])
def test_answers_equal_those_of_generate(evaluation: Evaluation, embedded_base: Base, skill: str) -> None:
    rows = [row for row in evaluation.items if row["task"] == f"tiny_{skill}"]
    items = make_skill_items(skill)[:60]
    assert [row["item"] for row in rows] == list(range(60))
    assert [row["target"] for row in rows] == [item["output"] for item in items]
    answers = [answer(embedded_base, render_plain_prompt(item)) for item in items]
    assert [row["responses"] for row in rows] == [[made] for made in answers]
    right = [float(made == item["output"]) for made, item in zip(answers, items, strict=True)]
    assert [row["metrics"]["exact_match"] for row in rows] == right


@torch.no_grad()
def log_likelihood(base: Base, prompt: str, continuation: str) -> float:
    """log p of the continuation's tokens after the prompt, without an end token."""
    prompt_ids, ids = (base.tokenizer.encode(text, add_special_tokens=False) for text in (prompt, continuation))
    log_probs = F.log_softmax(base.model(torch.tensor([prompt_ids + ids])).logits[0].double(), dim=-1)
    return sum(log_probs[len(prompt_ids) + place - 1, token].item() for place, token in enumerate(ids))


@pytest.mark.parametrize("skill", ["new_facts", "operation"])
def test_choices_fall_on_the_most_likely_continuation(evaluation: Evaluation, embedded_base: Base, skill: str) -> None:
    rows = [row for row in evaluation.items if row["task"] == f"tiny_{skill}_choice"]
    for row, document in zip(rows, make_documents(skill)["test"].select(range(60)), strict=True):
        likelihoods = [
            log_likelihood(embedded_base, render_plain_prompt(document), choice) for choice in document["choices"]
        ]
        chosen = likelihoods.index(max(likelihoods))
        assert row["metrics"]["acc"] == float(chosen == document["label"]), document


def test_evaluation_leaves_the_mode_as_it_was(embedded_base: Base) -> None:
    for training in (True, False):
        embedded_base.model.train(training)
        evaluated(embedded_base.model, embedded_base.tokenizer, settings("tiny_larger_choice", limit=2))
        assert embedded_base.model.training is training


UNKNOWN = r"evaluation.tasks must name lm-eval tasks, got no_such_task; .* tiny_addition"


def test_unknown_tasks_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "make_task_manager", lambda *asked: make_task_manager((), None))
    with pytest.raises(ConfigError, match=UNKNOWN):
        load_tasks(settings("tiny_addition", "no_such_task"))


@pytest.mark.slow
def test_own_tasks_of_lm_eval_are_known_and_others_refused() -> None:
    assert "hellaswag" in _choose_task_manager(settings("hellaswag")).all_tasks
    with pytest.raises(ConfigError, match=UNKNOWN):
        load_tasks(settings("truthfulqa_mc1", "no_such_task"))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("exact_match,none", "exact_match"),
        ("exact_match,strict-match", "exact_match@strict-match"),
        ("acc_stderr,none", None),
        ("alias", None),
    ],
)
def test_metric_names(key: str, expected: str | None) -> None:
    assert _name_metric(key) == expected


def test_numbers_that_lm_eval_has_not_are_none() -> None:
    results: dict[str, Any] = {
        "task": {"alias": "task", "acc,none": 0.25, "acc_stderr,none": "N/A", "f1,none": "N/A", "f1_stderr,none": 0.1}
    }
    results["task"] |= {"perplexity,none": math.inf, "bits,none": np.float64("nan"), "acc_stderr,strict": math.nan}
    results["task"] |= {"acc,strict": np.float32(0.5)}
    scores = _read_scores(results, {"task": {"original": 9, "effective": 4}})
    assert {name: (score.value, score.stderr, score.num_items) for name, score in scores["task"].items()} == {
        "acc": (0.25, None, 4),
        "acc@strict": (0.5, None, 4),
    }


def test_an_item_s_number_that_json_has_no_word_for_is_kept_as_text(tmp_path: Path) -> None:
    sample = {"doc_id": 0, "filter": "none", "target": "a", "filtered_resps": ["b"], "metrics": ["acc", "ppl", "pair"]}
    rows = _list_item_rows({"task": [sample | {"acc": np.float64(1), "ppl": -math.inf, "pair": (math.nan, 1)}]})
    assert rows[0]["metrics"] == {"acc": 1.0, "ppl": "-inf", "pair": "(nan, 1)"}
    write_json_lines(tmp_path / "items.jsonl", rows)
    assert read_trial_items(tmp_path / "items.jsonl") == {"scores.task.acc": {0: 1.0}}
