"""Columns that say which setting a row is of."""

from collections.abc import Callable

from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.formatting import DASH
from sweeplab.report.findings.names import build_name_columns

FactsFactory = Callable[..., StudyFacts]


def test_a_mask_is_one_column_where_its_first_key_stands(make_facts: FactsFactory) -> None:
    toggle = {"choices": [False, True]}
    space = {
        "adapter.lora_query": toggle,
        "adapter.rank": {"choices": [4, 8]},
        "adapter.lora_mlp": toggle,
        "optimizer.lr": {"low": 1e-4, "high": 1e-2},
    }
    columns = build_name_columns(make_facts(space=space), list(space))
    assert [column.title for column, _ in columns] == ["lora", "rank", "lr"]
    params = {"adapter.lora_query": False, "adapter.lora_mlp": True, "adapter.rank": 8, "optimizer.lr": 0.00123456}
    assert [make(params).text for _, make in columns] == ["MLP", "8", "0.001235"]
    assert [make({"adapter.rank": 4}).text for _, make in columns] == [DASH, "4", DASH]
