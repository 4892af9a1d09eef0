"""Configurations from strings against those of the command line."""

import pytest

import sweeplab
from sweeplab import compose_study
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError
from tests.trials import Compose


def test_a_trial_is_the_command_line_s(compose_trial: Compose) -> None:
    overrides = ("adapter.rank=4", "quantization=nf4", "optimizer=sgd")
    made = sweeplab.compose_trial(*overrides)
    assert isinstance(made, TrialConfig)
    assert made == compose_trial(*overrides)


def test_a_study_takes_a_space_without_pluses() -> None:
    study = compose_study("space.adapter.rank.choices=[2,4]", "study.name=mine")
    assert study.space == {"adapter": {"rank": {"choices": [2, 4]}}}
    assert study.study.name == "mine"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adapter.rnak=8", r"^adapter\.rnak is no key .*; did you mean adapter\.rank\?$"),
        ("adapter=lroa", r"^adapter=lroa does not exist; .*; did you mean lora\?$"),
        ("adapter.rank=0", r"^adapter\.rank must be at least 1, got 0; "),
        ("--rank=8", r"^--rank=8 is no flag; write adapter\.rank=8, without dashes$"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(override: str, message: str) -> None:
    for make in (compose_study, sweeplab.compose_trial):
        with pytest.raises(ConfigError, match=message):
            make(override)
