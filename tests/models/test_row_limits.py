"""What configurations say of rows that several texts share, family by family."""

from typing import Any

import pytest
import torch

from sweeplab.models.row_limits import RowLimit, find_column_multiple, find_row_limit, list_row_limits
from tests.architectures import build_tiny_model

WINDOW = (16, "an attention window of 16 tokens")
GROWING = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
CASES: tuple[tuple[str, dict[str, Any], list[tuple[int, str]]], ...] = (
    ("llama", {}, []),
    ("llama", {"max_position_embeddings": 32, "rope_parameters": GROWING}, [(32, "a range of 32 tokens, beyond ")]),
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
