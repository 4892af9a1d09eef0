"""Ranks within a budget, against published tables and brute force."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeplab.adapters.budget import count_adapter_params, find_rank, fit_to_budget
from sweeplab.models.layers import LinearShape
from sweeplab.runtime.errors import ConfigError
from tests.configs import PLAIN, adapter_of

GPT3_BUDGET = 18_874_368  # Hu et al. 2021, table 5: 18.9 million


def gpt3_shapes(num_matrices: int) -> list[LinearShape]:
    """The attention matrices of GPT-3's 96 layers, 12,288 x 12,288 each."""
    return [LinearShape(f"{layer}.{kind}", 12288, 12288) for layer in range(96) for kind in range(num_matrices)]


@pytest.mark.parametrize(("num_matrices", "rank"), [(1, 8), (2, 4), (4, 2)])
def test_the_budget_of_lora_s_table_5_gives_its_ranks_and_back(num_matrices: int, rank: int) -> None:
    fitting = fit_to_budget(PLAIN.replaced(budget=GPT3_BUDGET), gpt3_shapes(num_matrices))
    assert fitting.rank == rank
    assert count_adapter_params(PLAIN.replaced(rank=rank), gpt3_shapes(num_matrices)) == GPT3_BUDGET


@given(
    sizes=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=6),
    budget=st.integers(1, 5000),
    dora=st.booleans(),
    pinned=st.booleans(),
)
def test_the_rank_is_the_largest_that_fits(sizes: list[tuple[int, int]], budget: int, dora: bool, pinned: bool) -> None:
    shapes = [LinearShape(f"layers.{place}.proj", *size) for place, size in enumerate(sizes)]
    pattern = {r"layers\.0\.proj": 2} if pinned and len(sizes) > 1 else {}
    adapter = PLAIN.replaced(budget=budget, dora=dora, rank_pattern=pattern)
    counts = [count_adapter_params(adapter.replaced(rank=rank), shapes) for rank in range(1, budget // 2 + 2)]
    fitting = [rank for rank, count in enumerate(counts, 1) if count <= budget]
    if not fitting:
        with pytest.raises(ConfigError, match="must hold at least rank 1"):
            fit_to_budget(adapter, shapes)
        return
    assert fit_to_budget(adapter, shapes).rank == max(fitting)


@pytest.mark.parametrize(
    ("key", "pattern", "fits"),
    [
        ("rank_pattern", "q_proj", True),
        ("rank_pattern", "q", False),  # PEFT matches whole names from a dot on
        ("rank_pattern", "k_proj", False),  # not adapted
        ("alpha_pattern", r"layers\.0\..*", True),
        ("alpha_pattern", "foo", False),
        ("lr_pattern", "lora_B", True),
        ("lr_pattern", "^model", False),
        ("lr_pattern", "^base_model", True),
        ("lr_pattern", "mlp", False),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_what_there_is(key: str, pattern: str, fits: bool) -> None:
    patterns: dict[str, Any] = {key: {pattern: 1}}
    shapes = [LinearShape(f"model.layers.{layer}.{kind}_proj", 8, 8) for layer in range(2) for kind in "qv"]
    adapter = PLAIN.replaced(method="lora", bias="none", train_norms=False, **patterns)
    if fits:
        assert fit_to_budget(adapter, shapes) == adapter
        return
    there = r"adapted here: q_proj, v_proj \(such as model\.layers\.0\.q_proj\); mend the pattern, or drop it$"
    with pytest.raises(
        ConfigError, match=rf"^adapter\.{key} must match adapted .*'{re.escape(pattern)}' matches none; {there}"
    ):
        fit_to_budget(adapter, shapes)


def test_patterns_of_rates_are_left_to_training_where_more_trains() -> None:
    shapes = [LinearShape("model.layers.0.q_proj", 8, 8)]
    variants: list[dict[str, Any]] = [{"train_norms": True}, {"bias": "all"}, {"dora": True}]
    for more in variants:
        fit_to_budget(PLAIN.replaced(lr_pattern={"norm": 2.0}, **more), shapes)
    fit_to_budget(adapter_of("lora_prefix", lr_pattern={"norm": 2.0}), shapes)


def test_patterns_match_whole_names_from_a_dot_on_as_in_peft() -> None:
    adapter = PLAIN.replaced(rank=4, rank_pattern={"q_proj": 2, r"layers\.1\..*": 3})
    names = ["model.layers.0.q_proj", "model.layers.0.xq_proj", "model.layers.1.v_proj", "q_proj"]
    assert [find_rank(adapter, name) for name in names] == [2, 4, 3, 2]
