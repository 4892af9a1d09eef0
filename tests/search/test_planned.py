"""What cannot run is refused before the first trial: every choice, both ends of a range, what is not measured."""

import pytest

from sweeplab.config.space import axes
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.planned import compose_planned_points
from tests.study_runs import MakeRequest, compose_study, hydra, make_request

__all__ = ["compose_study", "hydra", "make_request"]

DRAWN = ("sampler=random", "study.num_trials=4")
DATA = "++space.data.choices=[tiny_facts,tiny_operation]"
TASKS = "evaluation=default"
SOLO = "study.objectives=[solo.step_seconds]"
LOSS = "study.objectives=[heldout_loss_nats_per_token]"


def check(make_request: MakeRequest, *overrides: str) -> None:
    request = make_request(*overrides)
    compose_planned_points(request, axes(request.config.space))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["++space.adapter.rank={low: 0, high: 4}"], r"^adapter\.rank must be at least 1, got 0"),
        (["++space.adapter.rank.choices=[4,8,-2]"], r"^adapter\.rank must be at least 1, got -2"),
        (["++space.adapter.dropout={low: 0.5, high: 1.5}"], r"^adapter\.dropout .*got 1\.5"),
        (["++space.adapter.dropout={low: 0.5, high: 1.5, step: 0.4}"], r"^adapter\.dropout .*got 1\.3"),
        (
            ["++space.adapter.choices=[lora,prompt]", "++space.adapter.rank={choices: [0, 4], when: {adapter: lora}}"],
            r"^adapter\.rank must be at least 1, got 0",
        ),
    ],
)
def test_a_value_that_no_trial_can_have_is_refused(
    make_request: MakeRequest, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(make_request, *DRAWN, *overrides)


def test_values_that_cannot_run_together_are_left_to_the_trials_that_have_them(make_request: MakeRequest) -> None:
    check(
        make_request,
        *DRAWN,
        "quantization=int8",  # without which dora cannot be drawn beside what is configured
        "++space.adapter.dora.choices=[true,false]",
        "++space.quantization.choices=[int8,nf4]",
    )


@pytest.mark.parametrize("sampler", [(), DRAWN], ids=["listed", "drawn"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [TASKS, "study.objectives=[scores.tiny_new_facts.exact_match]", DATA],
            r"^study\.objectives must name what evaluation\.tasks=\[tiny_operation, .* got scores\.tiny_new_facts",
        ),
        (
            ["quantization=none", "++space.adapter.choices=[lora,top_layers]", SOLO, "executor.device=auto"],
            r"^study\.objectives must be measured in all trials, and one that trains by itself .* got solo\.step_se",
        ),
    ],
)
def test_an_objective_that_some_trials_would_not_measure_is_refused(
    make_request: MakeRequest, sampler: tuple[str, ...], overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(make_request, *sampler, *overrides)


def test_a_constraint_that_some_trials_would_not_measure_is_refused(make_request: MakeRequest) -> None:
    constraint = "study.constraints={scores.tiny_new_facts.exact_match: {min: 0.1}}"
    check(make_request, "sampler=tpe", "study.num_trials=4", TASKS, LOSS, constraint)
    with pytest.raises(ConfigError, match=r"^study\.constraints must name what evaluation\.tasks=\[tiny_operation"):
        check(make_request, "sampler=tpe", "study.num_trials=4", TASKS, LOSS, DATA, constraint)


def test_on_a_cpu_a_trial_that_trains_by_itself_is_measured_before_it_too(make_request: MakeRequest) -> None:
    check(make_request, "quantization=none", "++space.adapter.choices=[lora,top_layers]", SOLO, "executor.device=cpu")
