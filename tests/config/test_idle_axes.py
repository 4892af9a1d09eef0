"""What would be set or varied without effect is refused before anything is planned."""

import pytest

from sweeplab.config.idle_axes import decider, deciders
from sweeplab.config.schema import OF_A_TRIAL, schema_keys
from sweeplab.config.space import axes
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.planned import compose_planned_points
from tests.study_runs import MakeRequest, compose_study, hydra, make_request

__all__ = ["compose_study", "hydra", "make_request"]  # rooms of the study's tests

PROMPT = "adapter=prompt"
RANK = "++space.adapter.rank.choices=[1,4]"
RATIO = "++space.adapter.alpha_ratio.choices=[1.0,4.0]"
EPOCHS = "++space.training.epochs.choices=[1,2]"
METHODS = "++space.adapter.choices=[lora,prompt]"
DRAWN = ("sampler=random", "study.num_trials=4")


def planned(make_request: MakeRequest, *overrides: str) -> int:
    request = make_request(*overrides)
    return len(compose_planned_points(request, axes(request.config.space)))


@pytest.mark.parametrize("sampler", [(), DRAWN], ids=["listed", "drawn"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["adapter.alpha=16", RATIO],
            r"adapter\.alpha_ratio has no effect while adapter\.alpha=16\.0; drop adapter",
        ),
        (
            ["adapter.budget=9000", RANK],
            r"adapter\.rank has no effect while adapter\.budget=9000; drop adapter",
        ),
        ([PROMPT, RANK], r"adapter\.rank has no effect while adapter\.method=prompt; choose adapter=lora, or drop the"),
        (
            [PROMPT, "++space.adapter.lora_key.choices=[true,false]"],
            r"adapter\.lora_key has no effect while adap",
        ),
        (
            ["++space.adapter.num_layers.choices=[1,2]"],
            r"adapter\.num_layers has no effect while adapter\.method=lora; choose adapter=top_layers, or drop",
        ),
        (
            ["++space.adapter.num_virtual_tokens.choices=[1,2]"],
            r"adapter\.num_virtual_tokens has no effect while adapter\.method=lora; choose adapter=prompt",
        ),
        (
            ["++space.quantization.group_size.choices=[64,128]"],
            r"quantization\.group_size has no effect while quantization=nf4_dq; choose quantization=hqq4",
        ),
        (
            ["training.max_steps=4", EPOCHS],
            r"training\.epochs has no effect while training\.max_steps=4; drop tra",
        ),
        (
            ["schedule.warmup_steps=2", "++space.schedule.warmup_ratio.choices=[0.1,0.2]"],
            r"schedule\.warmup_ratio has no effect while schedule\.warmup_steps=2; drop schedule\.warmup_steps",
        ),
        (
            ["schedule=constant", "++space.schedule.end_factor.choices=[0.1,0.2]"],
            r"schedule\.end_factor has no effect while schedule\.shape=constant; choose schedule=cosine",
        ),
        (
            ["++space.data.heldout_fraction.choices=[0.1,0.2]"],
            r"data\.heldout_fraction has no effect while data\.source=world; choose data=json",
        ),
    ],
)
def test_an_axis_that_moves_nothing_is_refused(
    overrides: list[str], message: str, sampler: tuple[str, ...], make_request: MakeRequest
) -> None:
    with pytest.raises(ConfigError, match=f"^space\\.{message}"):
        planned(make_request, *overrides, *sampler)


def test_an_axis_that_another_one_switches_off_needs_a_condition(make_request: MakeRequest) -> None:
    with pytest.raises(ConfigError, match=r"method=prompt; give it a space\.adapter\.rank\.when that names adapter"):
        planned(make_request, METHODS, RANK)
    conditional = "++space.adapter.rank={choices: [1, 4], when: {adapter: lora}}"
    assert planned(make_request, METHODS, conditional) == 3
    assert planned(make_request, METHODS, RANK, *DRAWN) == 1  # a drawn space is not known point by point


@pytest.mark.parametrize(
    "overrides",
    [[RANK, RATIO], ["adapter=dora", RANK], ["adapter.budget=9000", RATIO], [PROMPT, EPOCHS]],
    ids=["rank and ratio", "dora", "ratio within a budget", "prompt"],
)
def test_an_axis_with_an_effect_passes(overrides: list[str], make_request: MakeRequest) -> None:
    assert planned(make_request, *overrides) in (2, 4)


def test_what_decides_is_a_key_of_a_trial() -> None:
    trials = [key for key in schema_keys() if key.partition(".")[0] in OF_A_TRIAL]
    found = {one for key in trials for one in deciders(key)}
    assert {"adapter.method", "adapter.budget", "schedule.warmup_steps", "training.max_steps", "data.source"} <= found
    assert found <= set(trials)


def test_a_group_decides_what_its_keys_decide() -> None:
    assert decider("adapter.rank", ["optimizer", "adapter"]) == "adapter"
    assert decider("adapter.rank", ["adapter.budget"]) == "adapter.budget"
    assert decider("adapter.rank", ["adapter.rank", "optimizer.lr"]) is None


def test_a_path_among_the_axes_is_read_with_its_source_only(make_request: MakeRequest) -> None:
    request = make_request("++space.model.path.choices=[a,b]")
    with pytest.raises(
        ConfigError, match=r"^space\.model\.path has no effect while model\.source=embedded; choose model=local"
    ):
        compose_planned_points(request, axes(request.config.space))


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("{adapter.rnk: 8}", r"must name axes of space \(adapter\.rank\), got adapter\.rnk; drop"),
        ("{adapter.rank: 8}", r"adapter\.rank must be within .*, got 8; widen space"),
    ],
)
def test_a_plan_refuses_the_points_that_a_run_refuses(point: str, message: str, make_request: MakeRequest) -> None:
    with pytest.raises(ConfigError, match=rf"^study\.enqueue .*{message}"):
        planned(make_request, RANK, f"study.enqueue=[{point}]", *DRAWN)
