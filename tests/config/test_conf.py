"""Every file of conf composes, is checked, and says only what the schema knows."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from sweeplab.config.compose import compose_conf, to_study_config, trial_config
from sweeplab.config.conf import CONF, option_values
from sweeplab.config.schema import GROUPS, is_known, is_section, key_names
from sweeplab.config.space import Axis, axes, grid
from sweeplab.config.study import StudyConfig
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.planned import count_planned_trials
from tests.shown_commands import UNCOMMITTED

FILES: Final = sorted(CONF.rglob("*.yaml"))
EXPERIMENTS: Final = [path.stem for path in FILES if path.parent.name == "experiment"]
OPTIONS: Final = [
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for path in FILES
    if path.parent != CONF and path.parent.name != "experiment"
]
DRAWING: Final = ("random", "qmc", "tpe", "gp", "cmaes", "nsga2")
RUNGS: Final = ["training.heldout_interval=10", "training.max_steps=80"]
NEEDS: Final = {  # what a user has to say beside the option
    "model=local": ["model.path={folder}"],
    "model=hub": ["model.name=org/model"],
    "data=json": ["data.path={records}"],
    "data=mixture": ["data.parts=[{{path: {records}, weight: 3}}, {{path: {others}, weight: 1}}]"],
    "data=hub": ["data.name=org/records"],
    "model=tiny_vit": ["data=digits"],
    "data=digits": ["model=tiny_vit"],
    "adapter=none": ["quantization=none"],
    "adapter=top_layers": ["quantization=none"],
    "evaluation=default": ["evaluation.limit=7"],  # without which limit_seed says nothing
    "evaluation=none": ["study.objectives=[heldout_loss_nats_per_token]", "evaluation.limit_seed=null"],
    **{f"sampler={name}": ["study.num_trials=3"] for name in DRAWING},
    **{f"pruner={name}": RUNGS for name in ("asha", "hyperband", "median", "wilcoxon", "patient")},
    "pruner=schedule": ["training.heldout_interval=0.25"],
    **UNCOMMITTED,
    "sampler=race": ["++space.adapter.rank.choices=[4,8]"],
    "sampler=finals": ["++space.adapter.rank.choices=[4,8]"],
    "evaluation=own": [
        "evaluation.path={items}",
        "study.objectives=[scores.own.exact_match]",
        "evaluation.limit=7",
    ],
    "evaluation=judge": [
        "evaluation.path={items}",
        "evaluation.judge_url=https://judge.example/v1",
        "evaluation.judge_model=m",
        "study.objectives=[scores.own.win_rate]",
        "evaluation.limit=7",
    ],
    "evaluation=lora_insights": ["study.objectives=[scores.truthfulqa_mc2.acc]", "evaluation.limit=7"],
}
OPEN: Final = {"hydra", "defaults"}  # Hydra's own

Compose = Callable[..., StudyConfig]


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., list[str]]:
    """Overrides in which {folder} is a model's and {records} a file's path."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("")
    (tmp_path / "records.json").write_text(json.dumps([{"instruction": "a", "output": "b"}] * 2))
    (tmp_path / "others.json").write_text(json.dumps([{"instruction": "c", "output": "d"}] * 2))
    (tmp_path / "items.jsonl").write_text('{"question": "a", "answer": "b"}')
    paths = {name: str(tmp_path / f"{name}.json") for name in ("records", "others")}
    paths |= {"folder": str(tmp_path), "items": str(tmp_path / "items.jsonl")}
    return lambda *overrides: [one.format(**paths) for one in overrides]


@pytest.fixture
def composed(filled: Callable[..., list[str]]) -> Iterator[Compose]:
    """The checked study of overrides, filled."""

    def make(*overrides: str) -> StudyConfig:
        said = filled(*overrides)
        return to_study_config(compose_conf(said), "single", said)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield make


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_is_checked(option: str, composed: Compose) -> None:
    config = composed(option, *NEEDS.get(option, []))
    section = getattr(config, option.partition("=")[0])
    defaults = {name: field.default for name, field in type(section).model_fields.items()}
    values = defaults | section.to_dict()  # which leaves out what says nothing
    said = {key: value for key, value in option_values(*option.split("=")).items() if "$" not in str(value)}
    overridden = {one.partition("=")[0].rpartition(".")[2] for one in NEEDS.get(option, [])}
    assert {key: values[key] for key in said if key not in overridden} == {
        key: value for key, value in said.items() if key not in overridden
    }


@pytest.mark.parametrize("option", ["model=local", "model=hub", "data=json", "data=hub"])
def test_an_option_that_needs_more_says_what(option: str, composed: Compose) -> None:
    key = NEEDS[option][0].partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{key} is missing; give .*{key}="):
        composed(option)


@pytest.mark.parametrize("option", [f"sampler={name}" for name in DRAWING])
def test_a_sampler_that_never_ends_needs_a_number(option: str, composed: Compose) -> None:
    with pytest.raises(ConfigError, match=r"^study\.num_trials is missing; sampler=\w+ needs one"):
        composed(option)


def one_axis_at_a_time(varied: list[Axis]) -> Iterator[dict[str, Any]]:
    """Every value of every axis, the other axes at their first."""
    first = {axis.key: axis.points()[0] for axis in varied}
    for axis in varied:
        yield from ({**first, axis.key: value} for value in axis.points())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_so_do_its_trials(
    experiment: str, composed: Compose, filled: Callable[..., list[str]]
) -> None:
    chosen = filled(f"+experiment={experiment}", *NEEDS.get(f"+experiment={experiment}", []))
    config = composed(*chosen)
    assert config.study.question, "an experiment asks something"
    varied = axes(config.space)
    assert count_planned_trials(config, varied) > 1
    points = list(one_axis_at_a_time(varied)) if config.sampler.name == "grid" else [{}]
    for point in points:
        trial = trial_config(chosen, point)
        if "adapter.rank" in point:
            assert trial.adapter.rank == point["adapter.rank"]


def test_the_published_experiment_is_seven_ranks_by_three_seeds(composed: Compose) -> None:
    config = composed("+experiment=rank_sweep")
    assert [point["adapter.rank"] for point in grid(axes(config.space))] == [1, 2, 4, 8, 16, 32, 64]
    assert config.study.seeds == [0, 1, 2]
    assert config.adapter.enabled() == ["query", "key", "value", "projection", "mlp", "head"]


def unknown_keys(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Keys of `values` that no option has; mappings whose keys a user chooses take any."""
    found = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name in OPEN:
            continue
        if not is_known(key):
            found.append(key)
        elif is_section(key) and isinstance(value, dict):
            found += unknown_keys(value, f"{key}.")
    return found


def nested(path: Path) -> dict[str, Any]:
    """A file's values where Hydra puts them."""
    values: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[assignment]
    group = path.parent.relative_to(CONF)
    return values if path.parent == CONF or group.name == "experiment" else {group.name: values}


CONFIGURED: Final = [path for path in FILES if path.name != "priors.yaml"]  # it says what is known, not what runs


@pytest.mark.parametrize("path", CONFIGURED, ids=[str(path.relative_to(CONF)) for path in CONFIGURED])
def test_every_key_has_a_field_in_the_schema(path: Path) -> None:
    assert unknown_keys(nested(path)) == []


def test_a_key_without_a_field_is_seen() -> None:
    values = {"adapter": {"rnak": 3, "rank": 4}, "study": {"sead": 1}, "optimizer": {"lr": 1}, "foo": 1}
    assert sorted(unknown_keys(values)) == ["adapter.rnak", "foo", "study.sead"]


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.partition("=")[0] in GROUPS])
def test_an_option_s_file_has_every_key_that_the_schema_requires_and_no_other_s(option: str) -> None:
    group, _, name = option.partition("=")
    values = option_values(group, name)
    kind = GROUPS[group].kind_of(values)
    assert kind is not None
    keys = key_names(kind)
    assert values.keys() <= keys.keys()
    assert {key for key, field in keys.items() if field.is_required()} <= values.keys()
