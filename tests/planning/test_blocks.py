"""What is made again in the backward, by family and adapter, against the modules of real models."""

import pytest

from sweeplab.adapters.counting import build_skeleton
from sweeplab.config.trial import TrialConfig
from sweeplab.planning.blocks import count_backward_work, count_norm_bytes, is_made_again
from tests.planning.models import LAYERS, planned
from tests.trials import Compose


def compose_for(compose_trial: Compose, model_type: str) -> TrialConfig:
    return planned(compose_trial, model_type, LAYERS, batch=1, vocab_size=500)


@pytest.mark.parametrize(
    ("model_type", "norm_bytes", "made_again"),
    [
        (
            "llama",
            2 * 128 + 4,
            {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"},
        ),
        ("phi3", 2 * 128 + 4, {"qkv_proj", "o_proj", "gate_up_proj", "lm_head"}),  # its MLP is written otherwise
        ("gemma2", 4 * 128 + 4, set()),  # neither its norms nor GELU
        ("phi", 2 * 128 + 4, set()),  # LayerNorm
    ],
)
def test_what_is_kept_by_family(compose_trial: Compose, model_type: str, norm_bytes: int, made_again: set[str]) -> None:
    config = compose_for(compose_trial, model_type)
    sizes = build_skeleton(config.model)
    assert count_norm_bytes(config, sizes, 2) == norm_bytes
    found = {one.name.rpartition(".")[2] for one in sizes.linears if is_made_again(config, sizes, one)}
    assert found == made_again


def test_norms_that_train_keep_32_bits(compose_trial: Compose) -> None:
    config = compose_for(compose_trial, "llama")
    trained = config.replaced(adapter=config.adapter.replaced(train_norms=True))
    assert count_norm_bytes(trained, build_skeleton(config.model), 2) == 4 * 128 + 4


def test_an_adapted_last_matrix_needs_its_input_in_32_bits(compose_trial: Compose) -> None:
    config = compose_for(compose_trial, "llama")
    sizes = build_skeleton(config.model)
    assert count_backward_work(config, sizes, False, 2) == (3 * 2 * 352, 2 * 352 + 2 * 128)
    assert count_backward_work(config, sizes, True, 2) == (6 * 352 + 2 * 128, 2 * 2 * 352 + 2 * 128)
