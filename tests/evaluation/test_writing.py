"""Text that is written after questions at once is what follows each by itself."""

from contextlib import nullcontext
from typing import Any, Final

import pytest
import torch

from sweeplab.evaluation import writing
from sweeplab.evaluation.lm import CohortLM
from sweeplab.evaluation.writing import count_padding, find_batch_effect, write_each
from sweeplab.models.base import Base
from sweeplab.trial.exactness import choose_sharing_rule
from tests.architectures import build_tiny_model, draw_ids

NEW = 8
FACTORS: dict[str, Any] = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "original_max_position_embeddings": 30}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0, **FACTORS}
CASES: Final[tuple[tuple[str, dict[str, Any], str | None], ...]] = (
    ("llama", {}, None),
    ("lfm2", {}, None),
    ("mamba", {}, None),
    ("rwkv", {}, "is what other rows and padding move its logits by"),
    ("xlstm", {}, "is what other rows and padding move its logits by"),
    ("llama", {"rope_parameters": LONGROPE, "max_position_embeddings": 128}, "a long text changes"),
)


def pad(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])


@pytest.mark.parametrize(("name", "values", "why"), CASES)
def test_answers_of_several_lengths_are_written_as_one_by_one(
    name: str, values: dict[str, Any], why: str | None, embedded_base: Base
) -> None:
    model = build_tiny_model(name, **values)
    model.generation_config.eos_token_id = None
    rule = choose_sharing_rule(model)

    def write(rows: list[list[int]]) -> tuple[list[list[int]], list[str]]:
        lm = CohortLM(model, embedded_base.tokenizer, 8, 1, lambda numbers: nullcontext(), rule)
        ids, mask = pad(rows)
        written = lm._model_generate(ids, ids.shape[1] + NEW, [], attention_mask=mask)
        return written[:, ids.shape[1] :].tolist(), lm.notes

    questions = [draw_ids(length, length) for length in (5, 24, 40, 24)]
    together, notes = write(questions)
    assert together == [write([one])[0][0] for one in questions]
    assert [why in note for note in notes if why] == ([] if why is None else [True])
    assert why is not None or not notes


def test_a_batch_is_tried_once_for_each_model_until_there_is_more_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(writing, "_compare", lambda model, ids, mask, most, *rest: seen.append(most))
    model = build_tiny_model("llama")
    for most in (0, 3, 2, 3, 5, 4):
        assert find_batch_effect(model, *pad([[1] * 9, [1] * (9 - most)]), 4, 0) is None
    assert seen == [0, 3, 5]


def test_rows_that_are_written_alone_come_back_to_their_places() -> None:
    ids, mask = pad([[1, 2], [3, 4, 5], [6, 7]])
    assert count_padding(mask) == [1, 0, 1]

    def write(ids: torch.Tensor, mask: torch.Tensor, before: int) -> torch.Tensor:
        assert mask.all()
        return torch.cat([ids, ids[:, :1], ids[:, :1]][: 3 - before], dim=1)

    assert write_each(write, ids, mask).tolist() == [[0, 1, 2, 1, 0], [3, 4, 5, 3, 3], [0, 6, 7, 6, 0]]
