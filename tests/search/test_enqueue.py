"""Points that are known to be good are tried first; published recipes by name; an earlier study's trials."""

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from sweeplab.config.compose import override
from sweeplab.config.space import axes
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.records.store import write_facts, write_record
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.enqueue import _RECIPES, _read_entry
from tests.study_runs import ComposeStudy, Open, end, record_of, run

LR = "++space.optimizer.lr={low: 1e-5, high: 1e-2, log: true}"
RANK = "++space.adapter.rank={low: 1, high: 256, log: true}"
RANDOM = (LR, RANK, "sampler=random", "study.num_trials=8")
SPACE = {
    "optimizer": {
        "choices": ["adamw", "sgd"],
        "lr": {"low": 1e-5, "high": 1e-2, "log": True},
        "momentum": {"low": 0.0, "high": 0.9, "when": {"optimizer": "sgd"}},
    },
    "adapter": {"rank": {"choices": [4, 8, 16]}},
}


@pytest.mark.parametrize("reopened", [False, True])
def test_enqueued_points_come_first_with_all_their_seeds(open_search: Open, reopened: bool) -> None:
    overrides = (*RANDOM, "study.seeds=[0,1]", "study.enqueue=[alpaca_lora,{optimizer.lr: 0.001}]")
    parts = (1, 2, None) if reopened else (None,)
    asked = [one for most in parts for one in run(open_search(*overrides), most)]
    assert [one.seed for one in asked] == [0, 1] * 4
    assert [one.params for one in asked[:2]] == [{"optimizer.lr": 3e-4, "adapter.rank": 8}] * 2
    assert [one.params["optimizer.lr"] for one in asked[2:4]] == [1e-3] * 2
    assert asked[2].params == asked[3].params
    assert len({str(one.params) for one in asked}) == 4


@pytest.mark.parametrize("sampler", ["cmaes", "nsga2"])
def test_a_point_that_is_enqueued_belongs_to_a_generation(open_search: Open, sampler: str) -> None:
    search = open_search(LR, RANK, f"sampler={sampler}", "study.num_trials=4", "study.enqueue=[alpaca_lora]")
    run(search)
    keys = {"cmaes": "cma:generation", "nsga2": "NSGAIISampler:generation"}
    first, *others = [trial.system_attrs for trial in search.study.trials]
    assert keys[sampler] in first or sampler == "cmaes"  # CMA-ES draws its first point at random
    assert all(keys[sampler] in one for one in others)


@pytest.mark.parametrize("name", _RECIPES)
def test_every_recipe_names_its_source_and_keys_of_conf(compose_study: ComposeStudy, name: str) -> None:
    preset = _RECIPES[name]
    assert any(year in preset.source for year in ("2021", "2023", "github.com"))
    for alpha in ("adapter.alpha", "adapter.alpha_ratio"):  # for a space with either, and the same value by both
        given = (override(key, value) for key, value in preset.values.items() if not key.startswith("adapter.alpha"))
        adapter = compose_study(*given, override(alpha, preset.values[alpha])).adapter
        assert adapter.rank == preset.values["adapter.rank"]
        assert adapter.effective_alpha() == preset.values["adapter.alpha"]


def test_a_recipe_gives_the_axes_that_are_varied() -> None:
    varied = axes(SPACE)
    assert _read_entry("alpaca_lora", varied) == {"optimizer": "adamw", "optimizer.lr": 3e-4, "adapter.rank": 8}


def test_a_point_may_be_nested_or_dotted() -> None:
    varied = axes(SPACE)
    nested = _read_entry({"optimizer": {"lr": 1e-3}, "adapter": {"rank": 8.0}}, varied)
    assert nested == _read_entry({"optimizer.lr": 1e-3, "adapter.rank": 8}, varied)
    assert repr(nested["adapter.rank"]) == "8"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("best", r"study\.enqueue must name a known recipe, got best; choose from lora_paper, qlora"),
        ("qlora", r"study\.enqueue qlora: optimizer must be within .*, got paged_adamw; widen space\.optimizer"),
        ({"adapter.alpha": 8}, r"must name axes of space \(optimizer, .*\), got adapter\.alpha; drop it, or vary it"),
        ({"adapter.rank": 5}, r"adapter\.rank must be within \{choices: \[4, 8, 16\]\}, got 5; widen space"),
        (
            {"optimizer": "adamw", "optimizer.momentum": 0.5},
            r"has effect only with \{optimizer: sgd\}, got 0\.5; drop",
        ),
        (7, r"study\.enqueue must list points or names of recipes, got 7; try"),
    ],
)
def test_a_point_outside_the_space_is_refused(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _read_entry(entry, axes(SPACE))


def earlier(folder: Path, *, objective: str = "heldout_loss_nats_per_token", rank: float = 8) -> None:
    """A study of three trials in `folder`: two finished, one of them with a rank of 999, and one that failed."""
    facts = StudyFacts(
        "old", None, "", {objective: "minimize"}, [0], {"optimizer.lr": {"low": 1e-5, "high": 1e-1}}, 3, {}
    )
    write_facts(folder / "old", facts)
    for number, (loss, ranked) in enumerate([(1.5, rank), (1.0, 999), (None, rank)]):
        params = {"optimizer.lr": 1e-3, "adapter.rank": ranked}
        status = Status.FAILED if loss is None else Status.FINISHED
        record = TrialRecord(number, status, 0, params, {}, heldout_loss_nats_per_token=loss)
        write_record(folder / "old", record)


def test_an_earlier_studys_trials_are_learned_from_and_not_counted(open_search: Open, tmp_path: Path) -> None:
    earlier(tmp_path)
    overrides = (LR, RANK, "sampler=tpe", "study.num_trials=3", "study.warm_start=old", f"study.runs_dir={tmp_path}")
    asked = [one for most in (1, None) for one in run(open_search(*overrides), most)]
    search = open_search(*overrides)
    assert [one.number for one in asked] == [0, 1, 2]
    assert (search.num_planned, search.num_ended()) == (3, 3)
    first, *own = search.study.trials
    assert (first.state, first.values, first.params) == (
        TrialState.COMPLETE,
        [1.5],
        {"optimizer.lr": 1e-3, "adapter.rank": 8},
    )
    assert first.user_attrs == {"warm_start_from": "old 0"}
    assert [trial.params for trial in own] == [one.params for one in asked]


def test_a_warm_start_spares_the_random_beginning(open_search: Open, tmp_path: Path) -> None:
    """With one trial taken over TPE draws from its first trial on, which it notes for others that run."""
    earlier(tmp_path)
    overrides = (LR, RANK, "sampler=tpe", "study.num_trials=1", "sampler.n_startup_trials=1")
    search = open_search(*overrides, "study.warm_start=old", f"study.runs_dir={tmp_path}")
    run(search)
    assert any(key.startswith("tpe:") for key in search.study.trials[1].system_attrs)


@pytest.mark.parametrize(
    ("objective", "rank", "name", "message"),
    [
        (
            "num_trainable_params",
            8,
            "old",
            r"must have the objectives heldout_\w+, got old with num_trainable_params; ",
        ),
        ("heldout_loss_nats_per_token", 999, "old", r"must have finished trials within space \(optimizer\.lr, adapter"),
        ("heldout_loss_nats_per_token", 8, "older", r"must be another study in .*, got older; check the name"),
        ("heldout_loss_nats_per_token", 8, "single", r"must be another study in .*, got single"),
    ],
)
def test_a_study_that_teaches_nothing_is_refused(
    open_search: Open, tmp_path: Path, objective: str, rank: float, name: str, message: str
) -> None:
    earlier(tmp_path, objective=objective, rank=rank)
    with pytest.raises(ConfigError, match=rf"study\.warm_start {message}"):
        open_search(
            LR, RANK, "sampler=tpe", "study.num_trials=1", f"study.warm_start={name}", f"study.runs_dir={tmp_path}"
        )


def test_a_warm_start_comes_before_the_first_trial(open_search: Open, tmp_path: Path) -> None:
    earlier(tmp_path)
    overrides = (LR, RANK, "sampler=tpe", "study.num_trials=2", f"study.runs_dir={tmp_path}")
    search = open_search(*overrides)
    end(search, record_of(next(search.ask_all())))
    with pytest.raises(ConfigError, match=r"study\.warm_start was null when the study began, now old; choose another"):
        open_search(*overrides, "study.warm_start=old")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("sampler=grid study.enqueue=[qlora]", r"study\.enqueue does not go with sampler=grid, which runs every point"),
        ("sampler=random study.warm_start=old", r"study\.warm_start does not go with sampler=random, which learns not"),
        ("sampler=cmaes ++study.constraints.adapter_bytes.max=1", r"study\.constraints does not go with sampler=cmaes"),
        (
            "sampler=tpe ++study.constraints.beauty.max=1",
            r"study\.constraints must name metrics of a record, got",
        ),
        ("sampler=tpe ++study.constraints.adapter_bytes.most=1", r"adapter_bytes must hold max, min or both, got"),
        ("sampler=tpe ++study.constraints.adapter_bytes=1", r"adapter_bytes must hold max, min or both, got 1; try"),
        ("sampler=tpe ++study.constraints.adapter_bytes.max=few", r"adapter_bytes\.max must be a number, got few"),
    ],
)
def test_what_a_sampler_cannot_use_is_refused(compose_study: ComposeStudy, overrides: str, message: str) -> None:
    loss = "study.objectives=[heldout_loss_nats_per_token]"
    with pytest.raises(ConfigError, match=message):
        compose_study("evaluation=none", loss, "study.num_trials=3", *overrides.split())
