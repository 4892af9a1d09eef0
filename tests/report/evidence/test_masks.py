"""Toggles with one beginning have one name."""

from collections.abc import Callable

import pytest

from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.formatting import describe_params
from sweeplab.report.evidence.masks import find_mask, find_masks
from sweeplab.report.evidence.settings import label_setting

FactsFactory = Callable[..., StudyFacts]

TOGGLE = {"choices": [False, True]}
PARTS = ("query", "value", "mlp")


@pytest.mark.parametrize(
    ("on", "name"),
    [
        (("query", "mlp"), "query + MLP"),
        (("value",), "value"),
        ((), "no lora"),
        (PARTS, "all 3 of lora"),
    ],
)
def test_a_mask_says_what_is_on(make_facts: FactsFactory, on: tuple[str, ...], name: str) -> None:
    keys = [f"adapter.lora_{part}" for part in PARTS]
    facts = make_facts(space={"adapter.rank": {"choices": [4, 8]}, **dict.fromkeys(keys, TOGGLE)})
    params = {"adapter.rank": 8} | {f"adapter.lora_{part}": part in on for part in PARTS}
    assert label_setting(facts, params, list(facts.space)) == f"rank=8, {name}"
    assert describe_params(params) == f"rank=8, {name}"  # terminal, watch and W&B
    (mask,) = find_masks(facts.space, list(facts.space))
    assert mask.title == "lora"
    assert find_mask([mask], "adapter.rank") is None


def test_a_lone_toggle_and_choices_of_other_kinds_are_no_mask(make_facts: FactsFactory) -> None:
    space = {"adapter.lora_mlp": TOGGLE, "adapter.use_rslora": TOGGLE, "adapter.lora_rank": {"choices": [4, 8]}}
    facts = make_facts(space=space)
    assert find_masks(facts.space, list(space)) == []
    assert label_setting(facts, {"adapter.lora_mlp": True}, list(space)) == "lora_mlp=true"
    both = make_facts(space={"a.on_x": TOGGLE, "a.on_y": TOGGLE})
    assert label_setting(both, {"a.on_x": True, "a.on_y": True}, list(both.space)) == "x + y"
