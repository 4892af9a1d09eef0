"""Composing trials: a trial's values are on top, any value gets through Hydra's grammar, mistakes name the key."""

import json
import math
import time
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sweeplab.config.compose import compose_conf, override, spell, to_study_config, trial_config
from sweeplab.config.conf import is_group
from sweeplab.runtime.errors import ConfigError
from tests.study_runs import ComposeStudy

pytestmark = pytest.mark.usefixtures("hydra")

# OmegaConf reads ${...} as an interpolation however it is quoted, and it reads the space, so none arrives here
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="$"))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers()


@given(value=st.none() | st.booleans() | NUMBERS | TEXT)
@example("it's")
@example('say "x"')
@example("C:\\new\\table")
@example("ends in \\")
@example("\\'")
@example("\\\\'\\")
@example("a,b")
@example("{a: [1, 2]}")
@example("key=value")
@example("null")
@example("true")
@example("1e-05")
@example(" around ")
@example("")
@example("ünïcode 模型")
@example(1e-05)
@example(-0.0)
@example(1e300)
@example(10**20)
def test_every_value_is_read_back_by_hydra(value: Any) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"data.name={spell(value)}"])
    read = override.value()
    assert read == value
    assert type(read) is type(value)
    if isinstance(value, float) and isinstance(read, float):
        assert math.copysign(1, read) == math.copysign(1, value)  # -0.0


@settings(max_examples=15)  # each composes a study
@given(value=TEXT.filter(str.strip))
@example("C:\\new\\'table'\\")
def test_text_arrives_in_the_trial_as_it_was(value: str) -> None:
    assert trial_config([], {"data.name": value}).data.name == value


def test_a_trial_beats_the_command_line_which_beats_the_experiment() -> None:
    chosen = "+experiment=rank_sweep"
    assert trial_config([], {}).adapter.lora_mlp is False  # conf
    assert trial_config([chosen], {}).adapter.lora_mlp is True
    assert trial_config([chosen, "adapter.lora_mlp=false"], {}).adapter.lora_mlp is False
    assert trial_config([chosen, "adapter.lora_mlp=false"], {"adapter.lora_mlp": True}).adapter.lora_mlp is True


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_a_trial_beats_the_command_line_however_it_was_written(prefix: str) -> None:
    given = "training.gradient_clip=3"
    assert trial_config([prefix + given], {"training.gradient_clip": None}).training.gradient_clip is None


def test_values_keep_their_kind() -> None:
    trial = trial_config([], {"adapter.rank": 3, "adapter.dropout": 1e-05, "adapter.lora_key": True, "data.name": "1"})
    assert (trial.adapter.rank, trial.adapter.dropout, trial.adapter.lora_key, trial.data.name) == (3, 1e-05, True, "1")


def test_groups_are_known() -> None:
    assert is_group("optimizer")
    assert is_group("quantization")
    assert not is_group("optimizer.lr")
    assert not is_group("adapter.rank")


@pytest.mark.parametrize("order", list(permutations(["optimizer", "optimizer.lr", "quantization"])))
def test_a_group_and_a_key_inside_it_compose_in_any_order(order: tuple[str, ...]) -> None:
    values = {"optimizer": "sgd", "optimizer.lr": 0.25, "quantization": "fp4_dq"}
    trial = trial_config(["optimizer.weight_decay=0.5"], {key: values[key] for key in order})
    expected = {
        "_target_": "torch.optim.SGD",
        "lr": 0.25,
        "momentum": 0.9,
        "weight_decay": 0.5,
    }
    assert trial.optimizer.to_dict() == expected
    assert (trial.quantization.scheme, trial.quantization.is_double) == ("fp4", True)


def test_a_group_axis_beats_the_group_of_command_line_and_experiment() -> None:
    overrides = ["+experiment=rank_sweep", "optimizer=paged_adamw"]
    assert trial_config(overrides, {"optimizer": "sgd"}).optimizer.target == "torch.optim.SGD"


def test_trials_of_a_space_differ_in_nothing_else(compose_study: ComposeStudy) -> None:
    overrides = ["+experiment=rank_sweep", "training.max_steps=7"]
    base = compose_study(*overrides).trial_config()
    trial = trial_config(overrides, {"adapter.rank": 32})
    assert trial.adapter.rank == 32
    assert trial.replaced(adapter=trial.adapter.replaced(rank=base.adapter.rank)) == base


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"adapter.rnak": 4}, ("adapter.rnak=4", "rnak")),
        ({"adapetr.rank": 4}, ("adapetr.rank=4", "adapetr")),
    ],
)
def test_a_space_that_cannot_be_composed_is_refused_by_name(params: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refused:
        trial_config([], params)
    message = str(refused.value)
    assert message.startswith("space: a trial with ")
    assert message.endswith("; mend space")
    assert "\n" not in message
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"adapter.rank": 0}, r"^adapter\.rank must be at least 1, got 0; use a whole number from 1, or adapter=none"),
        ({"adapter.rank": "high"}, r"^adapter\.rank must be a whole number, got high; "),
        ({"adapter.rank": 1.5}, r"^adapter\.rank must be a whole number, got 1\.5; "),
        ({"optimizer": "sgd", "optimizer.betas": None}, r"^optimizer\.betas is no argument of torch\.optim\.SGD"),
        ({"optimizer.lr": -1.0}, r"^optimizer\.lr must be a number above 0, got -1\.0; try 3e-4"),
        ({"adapter": "none"}, "^adapter=none trains weights of the base, which quantization=nf4_dq freezes"),
    ],
)
def test_a_point_that_cannot_run_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trial_config([], params)


def test_a_key_that_is_missing_is_named(compose_study: ComposeStudy) -> None:
    with pytest.raises(ConfigError, match=r"^model\.name is missing; give model\.name=\.\.\.$"):
        compose_study("model=hub")


def test_an_interpolation_that_leads_nowhere_is_named(compose_study: ComposeStudy) -> None:
    with pytest.raises(ConfigError, match=r"^evaluation\.tasks: Interpolation key 'nope\.x' not found$"):
        compose_study("evaluation.tasks=${nope.x}")


def test_the_study_is_named_after_its_experiment_unless_it_has_a_name(compose_study: ComposeStudy) -> None:
    assert compose_study().study.name == "single"
    assert compose_study("study.name=mine").study.name == "mine"


def test_an_option_that_a_group_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(ConfigError, match=r"^space\.optimizer must name options of the group, got sdg; choose from"):
        trial_config([], {"optimizer": "sdg"})


POINTS: Final[list[dict[str, Any]]] = [
    {"adapter.rank": 4, "optimizer.lr": 1e-5, "training.gradient_clip": None},
    {"optimizer": "sgd", "optimizer.momentum": 0.5, "adapter": "dora", "quantization": "mixed"},
    {
        "evaluation.system_instruction": "it's \\'quoted\\' ${data.name} a,b=[1]",
        "adapter.lora_head": False,
        "data.fraction": 0.25,
    },
    {"quantization": "mixed", "quantization.pattern.mlp": "hqq2", "adapter.alpha": 3.0},
]


@pytest.mark.parametrize("params", POINTS, ids=["values", "groups", "text", "mapping"])
def test_a_trial_is_what_hydra_composes_of_all_its_overrides(hydra: None, params: dict[str, Any]) -> None:
    overrides = ["training.max_steps=7", "adapter.rank=16", "++space.adapter.rank.choices=[1,4]"]
    kept = [one for one in overrides if one.partition("=")[0] not in params]
    told = compose_conf([*kept, *(override(key, value) for key, value in params.items())])
    config = to_study_config(told, "single")
    for _ in range(2):  # composed, and copied
        assert trial_config(overrides, params) == config.trial_config()


def test_what_is_composed_has_no_home(
    compose_study: ComposeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    data = tmp_path / "data.json"
    data.write_text(json.dumps([{"instruction": "a", "output": "b"}] * 20))
    for typed in (str(data), "~/data.json"):  # the second as a YAML may say it
        assert trial_config(["data=json"], {"data.path": typed}).data.path == "~/data.json"
    study = compose_study("data=json", f"data.path={data}", f"++space.data.path.choices=[{data}]")
    assert study.data.path == "~/data.json"
    assert study.space == {"data": {"path": {"choices": ["~/data.json"]}}}


def test_composing_and_checking_a_trial_takes_a_few_milliseconds() -> None:
    """A large study composes thousands of trials; 2 ms were measured, 5 ms are the aim, and a slower core has 8.

    Processor time, and the best of many, so that other programs on the machine do not count; no two trials are alike,
    so that none is remembered.
    """
    overrides = ["+experiment=rank_sweep"]
    trial_config(overrides, {"adapter.rank": 1})  # what all trials have in common is composed once
    seconds = []
    for rank in range(2, 32):
        began = time.process_time()
        trial = trial_config(overrides, {"adapter.rank": rank, "optimizer.lr": 1e-4 * rank})
        seconds.append(time.process_time() - began)
        assert trial.adapter.rank == rank
    assert min(seconds) < 0.008


@pytest.mark.parametrize("taken", ["~claims", "claims=null"])
def test_an_experiment_s_claims_can_be_taken_away(compose_study: ComposeStudy, taken: str) -> None:
    assert compose_study("+experiment=rank_sweep").claims
    assert compose_study("+experiment=rank_sweep", taken).claims == []
