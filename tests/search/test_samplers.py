"""Samplers: a study that goes on draws what an unbroken one draws; spaces that one cannot draw from are refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from scipy.stats import qmc

from sweeplab.config.space import axes, fits, grid
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.runtime.errors import ConfigError
from tests.study_runs import LOSS, ComposeStudy, Open, asked_for, end, record_of, run

RANGES = (
    "++space.optimizer.lr={low: 1e-5, high: 1e-2, log: true}",
    "++space.adapter.dropout={low: 0.0, high: 0.5}",
)
LISTED = ("++space.adapter.rank.choices=[4,8,16]", "++space.optimizer.choices=[adamw,sgd]")
SMALL_SAMPLERS: dict[str, tuple[str, ...]] = {  # how many trials a sampler begins with at random, kept small
    "random": RANGES,
    "qmc": (*RANGES, LISTED[0]),
    "tpe": (*RANGES, LISTED[0], "sampler.n_startup_trials=4"),
    "gp": (*RANGES, LISTED[0], "sampler.n_startup_trials=4"),
    "cmaes": (*RANGES, "sampler.popsize=4"),
    "nsga2": (*RANGES, LISTED[0], "sampler.population_size=3"),
    "brute_force": LISTED,
    "grid": LISTED,
}
CONDITION = (
    "++space.optimizer.choices=[adamw,sgd]",
    "++space.optimizer.momentum={low: 0.0, high: 0.9, step: 0.3, when: {optimizer: sgd}}",
    "++space.adapter.rank.choices=[4,8]",
)


def bowl(asked: TrialSpec) -> float:
    """Lowest at a rate of 1e-3 and without dropout."""
    rate = asked.params.get("optimizer.lr", 1e-3)
    return (math.log10(rate) + 3) ** 2 + float(asked.params.get("adapter.dropout", 0.0)) + 0.01 * asked.number


# slow: test_resume.py kills a study of every sampler at every point; a sampler that learns, one that keeps a state
# of its own between trials and one that lists its space are enough beside it
ONE_OF_A_KIND = ("tpe", "cmaes", "grid")


@pytest.mark.parametrize(
    "sampler",
    [pytest.param(one, marks=() if one in ONE_OF_A_KIND else pytest.mark.slow) for one in SMALL_SAMPLERS],
)
def test_reopened_after_every_trial_it_draws_the_same(open_search: Open, sampler: str, tmp_path: Path) -> None:
    overrides = (*SMALL_SAMPLERS[sampler], f"sampler={sampler}", "study.num_trials=7")
    unbroken = run(open_search(*overrides, folder=tmp_path / "unbroken"), loss=bowl)
    reopened: list[TrialSpec] = []
    while done := run(open_search(*overrides), most=1, loss=bowl):
        reopened += done
    assert asked_for(reopened) == asked_for(unbroken)
    assert len(unbroken) == 6 if sampler in ("grid", "brute_force") else 7
    assert len({str(one.params) for one in unbroken}) == len(unbroken)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_it_learns(open_search: Open, sampler: str) -> None:
    """Of 16 trials the last four are nearer to the best rate than the first four, which were drawn at random."""
    overrides = (*SMALL_SAMPLERS[sampler], f"sampler={sampler}", "study.num_trials=16")
    distance = [abs(math.log10(one.params["optimizer.lr"]) + 3) for one in run(open_search(*overrides), loss=bowl)]
    assert np.mean(distance[-4:]) < np.mean(distance[:4])


def test_the_quasi_random_sequence_is_scipys(open_search: Open) -> None:
    """The first point is random, since Optuna learns the space from it; the others are Sobol's, once for all seeds."""
    asked = run(open_search(*RANGES, "sampler=qmc", "study.num_trials=5", "study.seeds=[0,1]", "sampler.seed=3"))
    points = [one.params for one in asked if one.seed == 0][1:]
    sobol = qmc.Sobol(2, seed=3, scramble=True).random(2)
    drawn = [[(math.log10(one["optimizer.lr"]) + 5) / 3, one["adapter.dropout"] / 0.5] for one in points]
    assert np.allclose(drawn, sobol, atol=1e-6)


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "nsga2", "brute_force", "grid"])
def test_an_inactive_axis_is_not_drawn(open_search: Open, compose_study: ComposeStudy, sampler: str) -> None:
    started = () if sampler in ("grid", "random", "brute_force") else SMALL_SAMPLERS[sampler][-1:]
    asked = run(open_search(*CONDITION, f"sampler={sampler}", "study.num_trials=12", *started))
    varied = axes(compose_study("evaluation=none", LOSS, *CONDITION).space)
    assert all(fits(one.params, varied) for one in asked)
    assert {"optimizer.momentum" in one.params for one in asked} == {True, False}
    if sampler in ("grid", "brute_force"):
        every: list[tuple[Any, ...]] = [(rank, "adamw", None) for rank in (4, 8)]
        every += [(rank, "sgd", momentum) for momentum in (0.0, 0.3, 0.6, 0.9) for rank in (4, 8)]
        got = [
            (one.params["adapter.rank"], one.params["optimizer"], one.params.get("optimizer.momentum")) for one in asked
        ]
        assert sorted(map(str, got)) == sorted(map(str, every))


def test_a_conditional_study_can_be_reopened(open_search: Open, tmp_path: Path) -> None:
    overrides = (*CONDITION, "sampler=tpe", "study.num_trials=10", "sampler.n_startup_trials=3", "study.seeds=[0,1]")
    unbroken = run(open_search(*overrides, folder=tmp_path / "unbroken"))
    broken = [one for most in (3, 4, None) for one in run(open_search(*overrides), most)]
    assert asked_for(broken) == asked_for(unbroken)


def test_brute_force_ends_with_its_space_and_asks_every_seed(open_search: Open) -> None:
    search = open_search(*LISTED, "sampler=brute_force", "study.seeds=[0,1]", "study.num_trials=99")
    asked = run(search)
    assert search.num_planned == len(asked) == 12
    assert len({(str(one.params), one.seed) for one in asked}) == 12
    assert [one.params for one in asked] != [point for point in grid(search.varied) for _ in range(2)]


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_trials_asked_at_once_are_apart(open_search: Open, sampler: str) -> None:
    """A cohort of four is drawn before any of it has ended: none of it repeats another's point."""
    options = ("sampler.n_startup_trials=4", f"sampler={sampler}", "study.num_trials=12")
    search = open_search("++space.adapter.dropout={low: 0.0, high: 0.5}", *options)
    asking = search.ask_all()
    for _ in range(2):
        cohort = [next(asking) for _ in range(4)]
        for one in cohort:
            end(search, record_of(one, abs(one.params["adapter.dropout"] - 0.2)))
    last = [next(asking).params["adapter.dropout"] for _ in range(4)]
    assert min(abs(a - b) for place, a in enumerate(last) for b in last[:place]) > 1e-4


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random", "qmc"])
def test_several_objectives(open_search: Open, sampler: str) -> None:
    metrics = "study.objectives=[heldout_loss_nats_per_token,num_trainable_params]"
    search = open_search(*SMALL_SAMPLERS[sampler], f"sampler={sampler}", "study.num_trials=8", metrics)
    for asked in search.ask_all():
        record = record_of(asked, bowl(asked))
        record.num_trainable_params = round(1000 * asked.params["adapter.dropout"])
        end(search, record)
    assert [trial.state for trial in search.study.trials] == [TrialState.COMPLETE] * 8


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("sampler=qmc", *CONDITION),
            r"\.momentum\.when does not go with sampler=qmc, .*use sampler=tpe",
        ),
        (("sampler=cmaes", RANGES[0], CONDITION[0]), r"space\.optimizer must be a range for sampler=cmaes"),
        (
            ("sampler=brute_force", *RANGES),
            r"space\.optimizer\.lr is a range, which .* and sampler=brute_force",
        ),
    ],
)
def test_a_space_that_it_cannot_draw_from_is_refused(open_search: Open, overrides: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_search(*overrides, "study.num_trials=3")
