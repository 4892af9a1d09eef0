"""Answers that share their question's tokens, against one sequence for each answer."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from sweeplab.evaluation.lm import CohortLM, _encodings
from sweeplab.evaluation.shared_context import (
    AnswerRequest,
    find_close_calls,
    group_rows,
    pack_rows,
    split_batches,
    sum_answers,
)
from sweeplab.logits.likelihood import score_targets
from sweeplab.models.base import Base
from tests.evaluation.conftest import evaluated, settings


def requests() -> tuple[list[AnswerRequest], list[int]]:
    """Seven items of one to four answers, of one token and of more; the last has two questions and equal answers."""
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> list[int]:
        return torch.randint(2, 128, (length,), generator=generator).tolist()

    made, items = [], []
    for item, (length, answers) in enumerate([(5, (1, 3, 2)), (1, (4, 4)), (9, (1,)), (3, (2, 7, 1, 1)), (6, (5, 2))]):
        context = draw(length)
        made += [AnswerRequest(context, draw(size)) for size in answers]
        items += [item] * len(answers)
    same = draw(3)
    return [*made, AnswerRequest(draw(4), same), AnswerRequest(draw(7), same)], [*items, 5, 5]


@torch.no_grad()
def one_by_one(model: Any, request: AnswerRequest) -> tuple[float, bool]:
    logits = model(torch.tensor([request.context + request.answer])).logits[0, len(request.context) - 1 : -1]
    answer = torch.tensor(request.answer)
    return -F.cross_entropy(logits, answer, reduction="sum").item(), bool((logits.argmax(-1) == answer).all())


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_log_likelihoods_equal_those_of_one_sequence_each(tiny_llama: Callable[..., Any], batch_size: int) -> None:
    model = tiny_llama().eval()
    asked, items = requests()
    with torch.no_grad():
        likeliest = model(torch.tensor([asked[0].context])).logits[0, -1].argmax().item()
    asked[0] = AnswerRequest(asked[0].context, [likeliest])  # an answer that the model would have written
    sums, greedy, places = torch.zeros(len(asked), dtype=torch.float64), torch.ones(len(asked), dtype=torch.bool), []
    for rows in split_batches(group_rows(asked, items), asked, batch_size):
        packed = pack_rows(rows, asked)
        inputs = {
            "input_ids": packed.ids_BT, "attention_mask": packed.mask_B1TT, "position_ids": packed.positions_BT
        }  # fmt: skip
        scored = score_targets(model, inputs, packed.rows_M, packed.columns_M, packed.targets_M)
        for place, value, hit in sum_answers(packed, *scored):
            sums[place], greedy[place] = value, hit
        places += [place for row in rows for place in row.requests]
    expected = [one_by_one(model, request) for request in asked]
    assert sorted(places) == list(range(len(asked)))
    assert sums.tolist() == pytest.approx([value for value, _ in expected], rel=1e-12)
    assert greedy.tolist() == [hit for _, hit in expected]
    assert greedy[0]
    assert not greedy.all()


def test_batches_hold_no_more_tokens_than_answers_one_by_one_would() -> None:
    asked, items = requests()
    rows = group_rows(asked, items)
    assert [row.num_tokens for row in rows] == sorted((row.num_tokens for row in rows), reverse=True)
    for batch in split_batches(rows, asked, 4):
        longest = max(len(asked[place].context) + len(asked[place].answer) - 1 for place in batch[0].requests)
        assert len(batch) == 1 or len(batch) * batch[0].num_tokens <= 4 * longest


def test_items_that_rounding_could_decide_are_found() -> None:
    values = [-10.0, -10.00001, -20.0, -30.0, -4.0, -8.0]
    items = ["close", "close", "clear", "clear", "by length", "by length"]
    assert find_close_calls(values, [1, 2, 1, 1, 1, 2], items) == {"close", "by length"}


def plain_and_shared(base: Base, monkeypatch: pytest.MonkeyPatch, *tasks: str) -> tuple[Any, Any, list[int]]:
    num_shared = []
    own = CohortLM._score_shared

    def counting(self: CohortLM, asked: Any, items: Any) -> Any:
        num_shared.append(len(asked))
        return own(self, asked, items)

    monkeypatch.setattr(CohortLM, "_score_shared", counting)
    shared = evaluated(base.model, base.tokenizer, settings(*tasks, limit=60))
    monkeypatch.setattr(CohortLM, "allow_sharing", lambda self, allowed: None)
    return evaluated(base.model, base.tokenizer, settings(*tasks, limit=60)), shared, num_shared


def test_scores_are_those_of_lm_evals_own_way(embedded_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, shared, num_shared = plain_and_shared(
        embedded_base, monkeypatch, "tiny_new_facts_choice", "tiny_operation_choice"
    )
    assert num_shared == [4, 480]  # the first item's to see that the model heeds masks, then all
    assert shared.scores == plain.scores
    for mine, own in zip(shared.items, plain.items, strict=True):
        assert mine | {"responses": []} == own | {"responses": []}
        for left, right in zip(mine["responses"], own["responses"], strict=True):
            (value, hit), (other, other_hit) = (text.strip("()").split(", ") for text in (left, right))
            assert hit == other_hit
            assert float(value) == pytest.approx(float(other), rel=1e-5)


def test_a_model_that_ignores_the_mask_is_asked_in_lm_evals_own_way(
    embedded_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = embedded_base.model.forward

    def forward(input_ids: Any, attention_mask: Any = None, position_ids: Any = None, **kwargs: Any) -> Any:
        return own(input_ids, **kwargs)

    monkeypatch.setattr(embedded_base.model, "forward", forward)
    plain, shared, num_shared = plain_and_shared(embedded_base, monkeypatch, "tiny_new_facts_choice")
    assert num_shared == [4]
    assert shared._replace(notes=()) == plain
    (note,) = shared.notes
    assert note.startswith("evaluation computed each question again for each of its answers: a log-likelihood of -")
    assert re.search(r" would be -\S+, and rounding explains \S+$", note)


def test_a_text_is_tokenized_once_for_all_trials(embedded_base: Base) -> None:
    _encodings.clear()
    lm = CohortLM(embedded_base.model, embedded_base.tokenizer, 8, 1, lambda places: nullcontext())
    first = lm.tok_encode("Where does Ada live?")
    assert first == embedded_base.tokenizer.encode("Where does Ada live?", add_special_tokens=False)
    first.append(0)  # a caller may change what it gets
    assert lm.tok_encode("Where does Ada live?") == first[:-1]
    assert len(_encodings[embedded_base.tokenizer]) == 1
