"""Axes: how they are spelled, what they refuse, what a grid lists and what Optuna draws from."""

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeplab.config.space import Axis, axes, grid, list_begin
from sweeplab.runtime.errors import ConfigError


def only(spec: dict[str, Any]) -> Axis:
    (found,) = axes({"adapter": {"rank": spec}})
    return found


def test_axes_are_found_in_order_at_any_depth() -> None:
    space = {
        "training": {"epochs": {"low": 1, "high": 3}},
        "adapter": {"rank": {"choices": [4, 8]}, "dropout": {"low": 0.0, "high": 0.5, "step": 0.25}},
        "optimizer": {"lr": {"low": 1e-5, "high": 1e-2, "log": True}},
    }
    assert axes(space) == [
        Axis("training.epochs", None, 1, 3, False, None),
        Axis("adapter.rank", (4, 8)),
        Axis("adapter.dropout", None, 0.0, 0.5, False, 0.25),
        Axis("optimizer.lr", None, 1e-5, 1e-2, True, None),
    ]


def test_no_space_is_no_axis_and_one_empty_point() -> None:
    assert axes({}) == []
    assert grid([]) == [{}]


@pytest.mark.parametrize("inner_first", [False, True])
def test_a_group_is_an_axis_beside_keys_inside_it(inner_first: bool) -> None:
    group, inner = {"choices": ["adamw", "sgd"]}, {"lr": {"choices": [0.1]}}
    space = {"optimizer": {**inner, **group} if inner_first else {**group, **inner}}
    assert axes(space) == [Axis("optimizer", ("adamw", "sgd")), Axis("optimizer.lr", (0.1,))]


def test_keys_named_like_a_range_stay_keys() -> None:
    """`log` and `low` name an axis's parts only where they hold no section."""
    assert axes({"optimizer": {"low": {"choices": [1]}, "log": {"step": {"low": 1, "high": 2}}}}) == [
        Axis("optimizer.low", (1,)),
        Axis("optimizer.log.step", None, 1, 2, False, None),
    ]


def test_what_is_no_part_of_a_trial_varies_nothing() -> None:
    rule = r"^space\.study\.max_failures must vary a part of a trial \(model, .*, evaluation\), got study; drop it"
    with pytest.raises(ConfigError, match=rule):
        axes({"study": {"max_failures": {"low": 0, "high": 9}}})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"choices": []}, r"space\.adapter\.rank\.choices must be a list of distinct values, got \[\]; try \[4,8,16\]"),
        ({"choices": 4}, r"space\.adapter\.rank\.choices must be a list of distinct values, got 4"),
        ({"choices": [4, 4]}, r"distinct values, got \[4, 4\]"),
        ({"choices": [[4], [8]]}, r"must hold numbers, words, true, false or null, got \[4\]; name a group"),
        ({"choices": [4], "low": 1}, r"space\.adapter\.rank takes choices or a range, not both"),
        ({"low": 1}, r"space\.adapter\.rank needs choices, or numbers low below high, got .*; try \{low: 1e-5"),
        ({"low": 2, "high": 1}, "numbers low below high"),
        ({"low": 1, "high": 1}, "numbers low below high"),
        ({"low": "1", "high": 2}, "numbers low below high"),
        ({"low": False, "high": True}, "numbers low below high"),
        ({"low": 0.0, "high": float("nan")}, "numbers low below high"),
        ({"low": 0, "high": 1, "log": True}, r"with log=true needs low above 0 and no step"),
        ({"low": 1, "high": 4, "log": True, "step": 1}, r"with log=true needs low above 0 and no step"),
        ({"low": 1, "high": 4, "step": 0}, r"space\.adapter\.rank\.step must be above 0, got 0; drop it"),
        ({"low": 1, "high": 4, "step": "big"}, r"step must be above 0, got big"),
        ({"low": 1, "high": 4, "log": "yes"}, r"space\.adapter\.rank\.log must be true or false, got yes"),
        ({"low": 0.1, "high": float("inf")}, "must be finite"),
        ({"choices": [1, float("nan")]}, "must be finite"),
        ({"choices": [1, True]}, r"must be a list of distinct values"),
    ],
)
def test_a_malformed_axis_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        only(spec)


@pytest.mark.parametrize("value", [4, "4", [4, 8], None])
def test_a_value_is_no_axis(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"space\.adapter\.rank must hold choices, or low and high, got .*; try"):
        axes({"adapter": {"rank": value}})


def test_the_last_axis_of_a_grid_moves_fastest() -> None:
    varied = axes({"adapter": {"rank": {"choices": [1, 2]}}, "optimizer": {"choices": ["adamw", "sgd"]}})
    assert [tuple(point.items()) for point in grid(varied)] == [
        (("adapter.rank", 1), ("optimizer", "adamw")),
        (("adapter.rank", 1), ("optimizer", "sgd")),
        (("adapter.rank", 2), ("optimizer", "adamw")),
        (("adapter.rank", 2), ("optimizer", "sgd")),
    ]


@pytest.mark.parametrize(
    ("spec", "points"),
    [
        ({"choices": [8, None, "x", True]}, [8, None, "x", True]),
        ({"low": 2, "high": 5}, [2, 3, 4, 5]),
        ({"low": 1, "high": 10, "step": 4}, [1, 5, 9]),
        ({"low": 0, "high": 1, "step": 0.5}, [0.0, 0.5, 1.0]),
        ({"low": 0.0, "high": 0.5, "step": 0.1}, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"low": 1, "high": 2.0, "step": 0.25}, [1.0, 1.25, 1.5, 1.75, 2.0]),
        ({"low": 1e-5, "high": 4e-5, "step": 1e-5}, [1e-5, 2e-5, 3e-5, 4e-5]),
    ],
)
def test_points_of_an_axis(spec: dict[str, Any], points: list[Any]) -> None:
    """Both ends belong to a range, and steps of a tenth give tenths."""
    found = only(spec).points()
    assert list(map(repr, found)) == list(map(repr, points))


@pytest.mark.parametrize("spec", [{"low": 1e-5, "high": 1e-2, "log": True}, {"low": 0.0, "high": 1.0}])
def test_a_continuous_range_is_no_grid(spec: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError,
        match=r"space\.adapter\.rank is a range, which sampler=grid and .* cannot list; give",
    ):
        grid([only(spec)])


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"choices": ["a", None, 2, True]}, CategoricalDistribution(["a", None, 2, True])),
        ({"low": 1, "high": 64}, IntDistribution(1, 64)),
        ({"low": 1, "high": 64, "log": True}, IntDistribution(1, 64, log=True)),
        ({"low": 1, "high": 9, "step": 4}, IntDistribution(1, 9, step=4)),
        ({"low": 1e-5, "high": 1e-2, "log": True}, FloatDistribution(1e-5, 1e-2, log=True)),
        ({"low": 1, "high": 2.5}, FloatDistribution(1, 2.5)),
        ({"low": 0.0, "high": 1.0, "step": 0.5}, FloatDistribution(0.0, 1.0, step=0.5)),
        ({"low": 0, "high": 1, "step": 0.5}, FloatDistribution(0.0, 1.0, step=0.5)),
    ],
)
def test_what_optuna_draws_from(spec: dict[str, Any], wanted: Any) -> None:
    assert only(spec).distribution() == wanted


def test_a_range_that_its_step_does_not_divide_ends_before_high() -> None:
    """Without a warning: Optuna would print one, with a path of its own code."""
    assert only({"low": 1, "high": 10, "step": 4}).distribution() == IntDistribution(1, 9, step=4)
    assert only({"low": 0.0, "high": 1.0, "step": 0.3}).distribution() == FloatDistribution(0.0, 0.9, step=0.3)


@pytest.mark.parametrize(
    "spec",
    [
        {"choices": ["a", None, 2, True]},
        {"low": 1, "high": 64},
        {"low": 1e-5, "high": 1e-2, "log": True},
        {"low": 0.0, "high": 1.0, "step": 0.5},
    ],
)
def test_an_axis_is_spelled_as_it_was_read(spec: dict[str, Any]) -> None:
    assert only(spec).spec() == spec
    assert only(only(spec).spec()) == only(spec)


CONDITIONAL = {
    "optimizer": {
        "choices": ["adamw", "sgd"],
        "momentum": {"choices": [0.0, 0.9], "when": {"optimizer": "sgd"}},
        "nesterov": {"choices": [True, False], "when": {"optimizer": {"momentum": 0.9}}},
    },
    "adapter": {
        "rank": {"low": 4, "high": 12, "step": 4},
        "alpha": {"low": 1, "high": 2, "when": {"adapter.rank": [4, 8]}},
    },
}


def test_a_condition_is_read_and_spelled() -> None:
    found = {one.key: one for one in axes(CONDITIONAL)}
    assert found["optimizer.momentum"].when == (("optimizer", ("sgd",)),)
    assert found["optimizer.nesterov"].when == (("optimizer.momentum", (0.9,)),)
    assert found["adapter.alpha"].spec() == {"low": 1, "high": 2, "when": {"adapter.rank": [4, 8]}}
    assert found["optimizer.momentum"].spec() == {"choices": [0.0, 0.9], "when": {"optimizer": "sgd"}}


def test_a_grid_lists_active_axes_only_through_chains_of_conditions() -> None:
    listed = [tuple(point.values()) for point in grid(axes(CONDITIONAL))]
    optimizers: list[tuple[Any, ...]] = [("adamw",), ("sgd", 0.0), ("sgd", 0.9, True), ("sgd", 0.9, False)]
    ranks: list[tuple[int, ...]] = [(4, 1), (4, 2), (8, 1), (8, 2), (12,)]
    assert listed == [one + other for one in optimizers for other in ranks]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (
            {"optimizer": "lion"},
            r"\.momentum\.when\.optimizer must be a value of that axis, got lion; drop",
        ),
        ({"adapter.rank": 4}, r"when may name only an axis above it \(optimizer\), got adapter\.rank; reorder space"),
        ({"optimizer.momentum": 4}, r"when may name only an axis above it"),
        ({}, r"momentum\.when must hold axes and their values, got \{\}; try when: \{optimizer: sgd\}"),
        ("sgd", r"momentum\.when must hold axes and their values, got sgd"),
        ({"optimizer": []}, r"when\.optimizer must be a list of distinct values"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(when: Any, message: str) -> None:
    space = {
        "optimizer": {"choices": ["adamw", "sgd"], "momentum": {"low": 0.0, "high": 0.9, "when": when}},
        "adapter": {"rank": {"choices": [4, 8]}},
    }
    with pytest.raises(ConfigError, match=message):
        axes(space)


@pytest.mark.parametrize(
    ("spec", "held", "not_held"),
    [
        ({"choices": [4, None, "x"]}, [4, None, "x"], [5, "y"]),
        ({"low": 1, "high": 9, "step": 4}, [1, 5, 9, 5.0], [2, 13, "5", True, None]),
        ({"low": 0.0, "high": 0.9, "step": 0.3}, [0.0, 0.3, 0.6000000000000001, 0.9], [0.1, 1.2]),
        ({"low": 1e-5, "high": 1e-2, "log": True}, [1e-5, 3e-4, 1e-2], [1e-6, 1]),
    ],
)
def test_what_an_axis_holds(spec: dict[str, Any], held: list[Any], not_held: list[Any]) -> None:
    found = only(spec)
    assert [found.holds(value) for value in (*held, *not_held)] == [True] * len(held) + [False] * len(not_held)


def test_a_value_between_steps_is_given_back_as_conf_spells_it() -> None:
    tenths = only({"low": 0.0, "high": 0.9, "step": 0.3})
    assert [repr(tenths.exact(value)) for value in (0.6000000000000001, 0.3)] == ["0.6", "0.3"]
    assert repr(only({"low": 1, "high": 9}).exact(5.0)) == "5"


def test_a_race_begins_with_the_first_choices() -> None:
    varied = axes({"adapter": {"rank": {"choices": [16, 4, 64], "begin": 2}, "alpha": {"low": 1, "high": 2}}})
    assert varied[0].spec() == {"choices": [16, 4, 64], "begin": 2}
    assert [one.points() for one in list_begin(varied)] == [[16, 4], [1, 2]]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"choices": [1, 2], "begin": 0}, r"rank\.begin must be a whole number above 0, got 0; try begin: 1"),
        ({"choices": [1, 2], "begin": True}, r"rank\.begin must be a whole number above 0, got"),
        ({"low": 1, "high": 2, "begin": 1}, r"rank\.begin goes with choices, of which it is a part, got 1; drop it"),
    ],
)
def test_a_beginning_that_is_none_is_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        axes({"adapter": {"rank": spec}})
