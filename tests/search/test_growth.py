"""A space that has grown goes on: what counts as growth, and what samplers make of the trials before it."""

import re
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from sweeplab.runtime.errors import ConfigError
from sweeplab.search.growth import list_lost_seeds, list_lost_values
from tests.study_runs import Open, run

Spec = dict[str, Any]


@pytest.mark.parametrize(
    ("earlier", "now", "goes_on"),
    [
        ({"choices": [4, 8]}, {"choices": [4, 8]}, True),
        ({"choices": [4, 8]}, {"choices": [2, 8, 4, 16]}, True),
        ({"choices": [4, 8]}, {"choices": [4]}, False),
        ({"choices": [4, 8]}, {"low": 4, "high": 8}, False),
        ({"low": 4, "high": 8}, {"low": 1, "high": 64}, True),
        ({"low": 4, "high": 8}, {"low": 5, "high": 64}, False),
        ({"low": 4, "high": 8}, {"low": 4.0, "high": 8.5}, False),
        ({"low": 4, "high": 8, "log": True}, {"low": 4, "high": 8}, False),
        ({"low": 2, "high": 8, "step": 2}, {"low": 0, "high": 8, "step": 1}, True),
        ({"low": 2, "high": 8, "step": 2}, {"low": 0, "high": 10, "step": 4}, False),
        ({"low": 2, "high": 8, "step": 2}, {"low": 1, "high": 9, "step": 2}, False),
        ({"low": 0.0, "high": 0.3, "step": 0.1}, {"low": 0.0, "high": 0.5, "step": 0.05}, True),
        ({"low": 0.0, "high": 0.3, "step": 0.1}, {"low": 0.0, "high": 0.5}, True),
        ({"low": 0.0, "high": 0.3}, {"low": 0.0, "high": 0.5, "step": 0.1}, False),
        ({"low": 0.0, "high": 0.3, "when": {"optimizer": "sgd"}}, {"low": 0.0, "high": 0.3}, False),
        (
            {"low": 0.0, "high": 0.3, "when": {"optimizer": "sgd"}},
            {"low": 0.0, "high": 0.5, "when": {"optimizer": "sgd"}},
            True,
        ),
    ],
)
def test_an_axis_may_gain_values_and_nothing_else(earlier: Spec, now: Spec, goes_on: bool) -> None:
    found = list_lost_values({"adapter.rank": earlier}, {"adapter.rank": now})
    assert len(found) == (not goes_on)
    for change in found:
        before, after = re.fullmatch(r"space\.adapter\.rank was (.+) and is now (.+)", change).groups()
        assert before != after
        assert not re.search(r"[{}']|True", change)


def test_a_lost_axis_is_told_in_words() -> None:
    before = {"low": 0.0, "high": 0.3, "step": 0.1, "when": {"optimizer": ["sgd", "lion"], "adapter.dora": False}}
    after = {"low": 1e-5, "high": 1e-2, "log": True}
    assert list_lost_values({"optimizer.lr": before}, {"optimizer.lr": after}) == [
        "space.optimizer.lr was 0.0 to 0.3 by 0.1 where optimizer is sgd or lion and adapter.dora is false "
        "and is now 1e-05 to 0.01 (log)"
    ]
    assert list_lost_values({"adapter.dora": {"choices": [None, True]}}, {"adapter.dora": {"choices": [True]}}) == [
        "space.adapter.dora was null, true and is now true"
    ]


def test_axes_that_are_new_or_gone_are_named() -> None:
    one, other = {"choices": [1, 2]}, {"choices": [3, 4]}
    assert list_lost_values({"adapter.rank": one}, {"training.epochs": other}) == [
        "space.training.epochs was not varied and is now 3, 4",
        "space.adapter.rank was 1, 2 and is now not varied",
    ]
    assert (
        list_lost_values(
            {"adapter.rank": one, "training.epochs": other}, {"training.epochs": other, "adapter.rank": one}
        )
        == []
    )


@pytest.mark.parametrize(
    ("now", "goes_on"), [([0, 1, 2], True), ([2, 0, 1, 7], True), ([0, 1], False), ([0, 1, 3], False)]
)
def test_seeds_may_be_added_and_never_taken_away(now: list[int], goes_on: bool) -> None:
    assert list_lost_seeds([0, 1, 2], now) == ([] if goes_on else [f"study.seeds was [0, 1, 2], now {now}"])


def test_a_grid_with_more_choices_asks_only_for_what_is_new(open_search: Open) -> None:
    choices = "++space.adapter.rank.choices="
    run(open_search(f"{choices}[4,8]", "study.seeds=[0,1]"))
    more = run(open_search(f"{choices}[2,4,8]", "study.seeds=[0,1]"))
    assert [(one.number, one.params["adapter.rank"], one.seed) for one in more] == [(4, 2, 0), (5, 2, 1)]


def test_tpe_draws_together_from_trials_before_and_after_the_space_grew(open_search: Open) -> None:
    """Optuna takes no other choices within a study, and leaves axes with several ranges out of the joint model."""
    before = ("++space.adapter.rank.choices=[4,8]", "++space.adapter.dropout={low: 0.0, high: 0.2}")
    after = ("++space.adapter.rank.choices=[2,4,8]", "++space.adapter.dropout={low: 0.0, high: 0.5}")
    tpe = ("sampler=tpe", "sampler.n_startup_trials=3", "study.seeds=[0,1]")
    first = open_search(*before, *tpe, "study.num_trials=5")
    asked = run(first)
    search = open_search(*after, *tpe, "study.num_trials=20")
    kept = search.study.trials
    assert [trial.params for trial in kept] == [one.params for one in asked]
    assert [(one.number, one.state, one.values, one.user_attrs) for one in kept] == [
        (one.number, one.state, one.values, one.user_attrs) for one in first.study.trials
    ]
    assert [trial.datetime_start for trial in kept] == [trial.datetime_start for trial in first.study.trials]
    more = run(search)
    assert [one.seed for one in more] == [1, *[0, 1] * 7]  # the seed that the fifth trial's point still lacked
    wanted = {"adapter.rank": CategoricalDistribution((2, 4, 8)), "adapter.dropout": FloatDistribution(0.0, 0.5)}
    assert all(trial.distributions == wanted for trial in search.study.trials)
    drawn = [trial for trial in search.study.trials[5:] if trial.user_attrs["seed"] == 0]
    assert all(any(key.startswith("tpe:relative_params") for key in trial.system_attrs) for trial in drawn)


def test_a_running_trial_survives_the_restatement(open_search: Open) -> None:
    choices = "++space.adapter.rank.choices="
    running = next(open_search(f"{choices}[4,8]").ask_all())
    again = run(open_search(f"{choices}[2,4,8]"))
    assert again[0] == running
    assert sorted(one.params["adapter.rank"] for one in again) == [2, 4, 8]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_value_that_is_gone_is_named(open_search: Open, tmp_path: Path) -> None:
    choices = "++space.adapter.rank.choices="
    run(open_search(f"{choices}[4,8]"))
    before = contents(tmp_path / "study")
    with pytest.raises(ConfigError, match=r"^space\.adapter\.rank has lost 4, which was drawn; choose another study"):
        open_search(f"{choices}[8,16]")
    assert contents(tmp_path / "study") == before
