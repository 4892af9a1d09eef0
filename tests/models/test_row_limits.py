"""What configurations say of rows that several texts share, family by family."""

import math
from typing import Any

import pytest
import torch

from sweeplab.data.batches import make_heldout_batches
from sweeplab.models.rotary import forget_longer_texts
from sweeplab.models.row_limits import (
    RowLimit,
    find_column_multiple,
    find_growing_length,
    find_row_limit,
    list_row_limits,
)
from sweeplab.training.module import sum_target_losses
from tests.architectures import build_tiny_model, draw_examples

WINDOW = (16, "an attention window of 16 tokens")
GROWING = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
CASES: tuple[tuple[str, dict[str, Any], list[tuple[int, str]]], ...] = (
    ("llama", {}, []),
    ("llama", {"max_position_embeddings": 32, "rope_parameters": GROWING}, [(32, "a range of 32 tokens, beyond ")]),
    (
        "llama",
        {"max_position_embeddings": 32, "rope_parameters": {**GROWING, "original_max_position_embeddings": 512}},
        [(32, "a range of 32 tokens, beyond ")],  # of both the one that transformers reads
    ),
    ("qwen2", {"use_sliding_window": False}, []),
    ("mistral", {}, [WINDOW]),
    ("mistral", {"sliding_window": None}, []),
    ("gemma3_text", {}, [WINDOW]),
    ("llama4_text", {}, [WINDOW]),
    ("lfm2", {}, [(0, "layers of the kind conv, ")]),
    ("qwen3_next", {}, [(0, "layers of the kind linear_attention, ")]),
    ("recurrent_gemma", {}, [(0, "layers of the kind ")]),
    ("falcon", {"alibi": True}, [(0, "positions by ALiBi, ")]),
    ("roberta", {"is_decoder": True}, [(0, "positions that count from the padding token's id")]),
)


@pytest.mark.parametrize(
    ("name", "values", "expected"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_first_limit_of_a_family(name: str, values: dict[str, Any], expected: list[tuple[int, str]]) -> None:
    limits = list_row_limits(build_tiny_model(name, **values))
    assert [(limit.num_tokens, limit.why[: len(expected[0][1])]) for limit in limits[:1]] == expected


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("llama", {}, None),
        ("llama", {"max_position_embeddings": 32, "rope_parameters": GROWING}, 32),
        ("deepseek_v32", {"index_topk": 8}, 8),
        ("doge", {"keep_window_size": 8}, 8),
    ],
)
def test_longer_rows_are_computed_beside_rows_of_their_own_length(
    name: str, values: dict[str, Any], expected: int | None
) -> None:
    """Each row of a batch of held-out rows is computed as by itself."""
    model, examples = build_tiny_model(name, **values), draw_examples((60, 40, 40, 7, 25, 5))
    assert find_growing_length(model) == expected
    forget_longer_texts(model)
    apart = [batch for one in examples for batch in make_heldout_batches([one], 0, 1)]
    together = make_heldout_batches(examples, 0, 8, expected)
    assert (len(together) > 1) == (expected is not None)
    found, exact = (math.fsum(sum_target_losses(model, batch).item() for batch in one) for one in (together, apart))
    assert found == pytest.approx(exact, rel=1e-6)


def test_texts_as_long_as_the_window_may_share_a_row() -> None:
    limits = [RowLimit(16, "a window"), RowLimit(64, "another")]
    assert find_row_limit(limits, 16) is None
    assert find_row_limit(limits, 17) == limits[0]
    assert find_row_limit(limits[1:], 65) == limits[1]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ({"max_position_embeddings": 64}, torch.bfloat16, 16),
        ({"max_position_embeddings": 64}, torch.float32, 1),
        ({"max_position_embeddings": 60}, torch.bfloat16, 1),  # 64 columns would have positions that there are not
    ],
)
def test_columns_are_rounded_up_in_half_precision(values: dict[str, Any], dtype: torch.dtype, expected: int) -> None:
    model: Any = build_tiny_model("gpt2", **values)
    assert find_column_multiple(model.to(dtype)) == expected
