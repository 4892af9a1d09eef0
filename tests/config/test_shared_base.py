"""Which trials may share a base: what each key of a configuration does to it."""

from typing import Any

import pytest

from sweeplab.config.shared_base import (
    can_gain_from_others,
    describe_layout,
    geometry,
    pays_to_measure,
    takes_vectors,
    why_alone,
    why_exclusive,
)
from tests.trials import Compose


@pytest.mark.parametrize(
    "overrides",
    [
        ["adapter.rank=64", "adapter.rslora=true", "adapter.dropout=0.3"],
        ["adapter=loraplus"],
        ["optimizer=adafactor"],
        ["optimizer=sgd", "training.gradient_clip=null", "schedule=constant"],
    ],
)
def test_what_changes_matrices_beside_the_base_shares_it(compose_trial: Compose, overrides: list[str]) -> None:
    assert why_exclusive(compose_trial(*overrides)) is None


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("adapter=none", "adapter.method=none trains something else"),
        ("adapter=norms", "adapter.method=norms trains something else"),
        ("adapter=bitfit", "adapter.method=bitfit trains something else"),
        ("adapter=prompt", "adapter.method=prompt trains something else"),
        ("adapter.dora=true", "adapter.dora=true scales the base's own columns"),
        ("adapter.initialization=pissa", "adapter.initialization=pissa changes the base"),
        ("adapter.initialization=olora", "adapter.initialization=olora changes the base"),
        ("adapter.bias=all", "adapter.bias=all trains biases of the base"),
        ("adapter.train_norms=true", "adapter.train_norms=true trains normalization layers"),
        ("optimizer=sophia", "optimizer=sophia runs a backward of its own"),
    ],
)
def test_what_changes_the_base_is_alone_and_says_which_key(compose_trial: Compose, override: str, reason: str) -> None:
    why = why_exclusive(compose_trial("quantization=none", override))
    assert why is not None
    assert why.startswith(reason)


def test_int8_trains_alone_on_cuda_only(compose_trial: Compose) -> None:
    int8 = compose_trial("quantization=int8")
    assert why_alone(int8, "cpu") is None
    why = why_alone(int8, "cuda")
    assert why is not None
    assert why.startswith("quantization.scheme=int8 on CUDA")
    assert why_alone(compose_trial("quantization=nf4"), "cuda") is None
    assert why_alone(compose_trial("optimizer=sophia"), "cuda") == why_exclusive(compose_trial("optimizer=sophia"))


@pytest.mark.parametrize(
    "override",
    [
        "adapter.rank=3",
        "adapter.lora_mlp=true",
        "optimizer.lr=0.5",
        "schedule=linear",
        "training.max_steps=7",
        "training.epochs=9",
        "training.gradient_clip=0.5",
        "training.heldout_interval=3",
        "training.keep=best",
        "training.patience=2",
        "training.log_interval=3",
    ],
)
def test_a_trial_s_own_settings_are_no_part_of_the_geometry(compose_trial: Compose, override: str) -> None:
    assert geometry(compose_trial("training.heldout_interval=0.1", override)) == geometry(compose_trial())


@pytest.mark.parametrize(
    "override",
    [
        "quantization=none",
        "quantization=nf4",
        "data.num_examples=77",
        "data.packing=true",
        "evaluation.limit=3",
        "training.micro_batch_size=3",
        "training.accumulation=5",
        "training.max_length=99",
        "training.precision=float32",
        "training.gradient_checkpointing=true",
        "model=llama2_7b",
    ],
)
def test_what_all_rows_of_a_batch_share_is_part_of_it(compose_trial: Compose, override: str) -> None:
    assert geometry(compose_trial("quantization=int8", override)) != geometry(compose_trial("quantization=int8"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["optimizer=adamw"], True),
        (["optimizer=sgd"], True),
        (["optimizer=schedule_free"], True),
        (["optimizer=adamw_8bit"], False),  # a scale per block of 256 numbers
        (["optimizer=adafactor"], False),
        (["optimizer=muon"], False),
        (["optimizer=adamw", "+adapter.lr_pattern={q_proj: 0.5}"], False),
    ],
)
def test_only_optimizers_that_work_number_by_number_take_vectors(
    compose_trial: Any, overrides: list[str], expected: bool
) -> None:
    assert takes_vectors(compose_trial(*overrides)) is expected


def test_layouts_are_alike_where_a_step_costs_the_same(compose_trial: Compose) -> None:
    plain = describe_layout(compose_trial("optimizer=adamw"))
    same = ("optimizer.lr=1e-4", "adapter.alpha_ratio=4", "training.max_steps=9", "schedule=constant")
    others = ("adapter.rank=16", "adapter.dropout=0.1", "optimizer=sgd", "training.micro_batch_size=2")
    assert all(describe_layout(compose_trial("optimizer=adamw", one)) == plain for one in same)
    assert all(describe_layout(compose_trial("optimizer=adamw", one)) != plain for one in others)


@pytest.mark.parametrize(
    ("num_params", "num_tokens", "device", "can"),
    [
        (134_515_008, 4 * 90, "cpu", False),  # 4 x 134.5e6 x 4 x 90 = 1.9e11
        (885_888, 16 * 90, "cpu", True),  # 5e9
        (134_515_008, 1 * 90, "cpu", True),
        (8_190_735_360, 4 * 90, "cuda", True),
    ],
)
def test_large_products_gain_nothing_from_others(num_params: int, num_tokens: int, device: str, can: bool) -> None:
    """As arithmetic says."""
    assert can_gain_from_others(num_params, num_tokens, device) is can


@pytest.mark.parametrize(("count", "device", "pays"), [(399, "cpu", False), (400, "cpu", True), (1, "cuda", True)])
def test_short_trials_are_not_measured_on_a_cpu(count: int, device: str, pays: bool) -> None:
    """24 micro-batches of 400 are 6 %."""
    assert pays_to_measure(count, device) is pays
