"""What a base computes of a text does not depend on the texts that it has read before."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sweeplab.models.rotary import forget_longer_texts
from tests.architectures import build_tiny_model, draw_ids

DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
BY_LAYER = {"full_attention": DYNAMIC, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}


@pytest.mark.parametrize(("name", "rotary"), [("llama", DYNAMIC), ("mistral", DYNAMIC), ("gemma3_text", BY_LAYER)])
def test_rotary_positions_follow_from_what_is_read(name: str, rotary: dict[str, Any]) -> None:
    def build() -> Any:
        return build_tiny_model(name, max_position_embeddings=24, rope_parameters=rotary)

    @torch.no_grad()
    def read(model: Any, length: int) -> Tensor:
        logits: Tensor = model(input_ids=torch.tensor([draw_ids(length, 1)])).logits
        return logits

    model = build()
    forget_longer_texts(model)
    for length in (30, 60, 30, 20, 40):
        fresh = build()
        read(fresh, 5)  # a short text is read as by a model that was just loaded
        assert torch.equal(read(model, length), read(fresh, length))


def test_text_is_written_as_by_a_model_that_was_just_loaded() -> None:
    model: Any = build_tiny_model("llama", max_position_embeddings=24, rope_parameters=DYNAMIC)
    fresh: Any = build_tiny_model("llama", max_position_embeddings=24, rope_parameters=DYNAMIC)
    forget_longer_texts(model)
    question = torch.tensor([draw_ids(20, 2)])
    for one in (model, fresh):
        one.generation_config.eos_token_id = None
        one(input_ids=torch.tensor([draw_ids(60 if one is model else 5, 1)]))
    written = [one.generate(input_ids=question, max_new_tokens=12, do_sample=False) for one in (model, fresh)]
    assert torch.equal(*written)
