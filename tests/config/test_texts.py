"""Texts stay as they are typed, on the command line and in a user's own file; all else is read as before."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sweeplab.config.compose import compose_conf, mark_known
from sweeplab.config.own_files import _read_values
from sweeplab.config.texts import is_text, keep_texts
from tests.hostile import answer

TEXTS = (
    "2026_07_15",
    "1e5",
    "true",
    "00012",
    "0x10",
    "1_000",
    "inf",
    "NaN",
    ".5",
    "-3",
    "5.",
    "False",
    "it's",
    "é &#=~;",
)


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("typed", TEXTS)
@pytest.mark.parametrize("key", ["study.name", "study.warm_start", "tracking.project", "data.subset", "study.runs_dir"])
def test_a_text_is_what_was_typed(key: str, typed: str) -> None:
    option = ["data=hub"] if key.startswith("data") else []
    assert OmegaConf.select(compose_conf([*option, f"{key}={typed}"]), key) == typed


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("studies=[2026_07_15, 1e5,a]", "studies", ["2026_07_15", "1e5", "a"]),
        ("study={name: 1e5, seeds: [1,2]}", "study", {"name": "1e5", "seeds": [1, 2]}),
        ("space.data.subset.choices=[2024,x]", "space.data.subset.choices", ["2024", "x"]),
        ("space={data: {subset: {choices: [1, 2]}}}", "space.data.subset.choices", ["1", "2"]),
        ("space.adapter.rank.choices=[1,2]", "space.adapter.rank.choices", [1, 2]),
        ("evaluation.tasks=['a', 1e5]", "evaluation.tasks", ["a", "1e5"]),
        ("study.name='1e5'", "study.name", "1e5"),
        ("study.name=null", "study.name", None),
        ("study.name=[4,8]", "study.name", [4, 8]),
        ("study.question=${study.runs_dir}", "study.question", "runs"),
        ("adapter.rank=1_000", "adapter.rank", 1000),
        ("data.path='{x}'", "data.path", "{x}"),
    ],
)
def test_what_is_no_single_text_is_read_as_its_key_is(override: str, key: str, expected: object) -> None:
    found = OmegaConf.select(compose_conf([override]), key)
    if isinstance(expected, dict):
        assert {name: found[name] for name in expected} == expected
    else:
        assert found == expected


def test_jobs_of_a_sweep_have_the_names_that_were_typed() -> None:
    assert keep_texts("study.name=1e5,true,x") == "study.name='1e5','true',x"
    assert mark_known("+experiment=2026_07_15") == "+experiment='2026_07_15'"


@pytest.mark.parametrize("key", ["executor.num_workers", "adapter.rank", "training.precision", "study.seeds", "zzz"])
def test_other_keys_are_no_texts(key: str) -> None:
    assert not is_text(key)
    assert keep_texts(f"{key}=1e5") == f"{key}=1e5"


def test_a_file_of_ones_own_keeps_texts_too(tmp_path: Path) -> None:
    text = (
        "study: {name: 2026_07_15, question: yes, seeds: [1_0]}\nstudies: [1e5, 0x1F]\n"
        "study.warm_start: ~\nspace: {data.subset: {choices: [2024, 2026-01-01]}, adapter.rank: {choices: [8]}}\n"
    )
    values = _read_values(tmp_path / "mine.yaml", text, "")
    assert values["study"] == {"name": "2026_07_15", "question": "yes", "seeds": [10]}
    assert values["studies"] == ["1e5", "0x1F"]
    assert values["study.warm_start"] is None
    assert values["space"]["data.subset"]["choices"] == ["2024", "2026-01-01"]
    assert values["space"]["adapter.rank"]["choices"] == [8]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"# @package _global_\nspace:\n\tadapter: 1\n", "line 3: begins with a tab"),
        (b"# @package _global_\nstudy:\n  seeds: [0]\n  seeds: [1]\n", "line 4: seeds stands there twice; keep one"),
        (b"# @package _global_\nstudy:\n  seeds: [0,\n", "line 3: the file ends within a bracket or a quote"),
        (b"# @package _global_\nstudy:\n  question: caf\xe9\n", "line 3: the byte 0xe9 is not UTF-8; save it in UTF-8"),
        (b"study:\n  seeds: [0]\n", "line 1: an experiment's first line must be `# @package _global_`; write it"),
        (b"# @package _global_\ndefaults:\n  - /optimizer: sgd\n", "line 3: .*; write `- override /optimizer: sgd`"),
        (
            b"# @package _global_\ndefaults:\n  - override optimizer: sgd\n",
            "line 3: .*; write `- override /opt",
        ),
        (b"# @package _global_\ndefaults:\n  - optimizer: sgd\n", "line 3: .*; write `- override /optimizer: sgd`"),
        (b"# @package _global_\nstudy: &a {x: *a}\n", "line 2: an alias stands within what it repeats"),
    ],
)
def test_a_mistake_in_ones_own_file_names_line_and_remedy(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_bytes(data)
    refused = answer(["--config-dir=.", "+experiment=mine", "action=report"], tmp_path)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert re.search(rf"experiment/mine\.yaml, {said}", refused.err)


def test_a_mark_at_the_beginning_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_bytes(b"\xef\xbb\xbf# @package _global_\r\nstudy:\r\n  name: 1e5\r\n")
    assert "runs/1e5 holds no study" in answer(["--config-dir=.", "+experiment=mine", "action=report"], tmp_path).err


def test_an_experiment_that_is_not_found_is_explained(tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\n")
    (tmp_path / "conf" / "experiment" / "old.yml").write_text("# @package _global_\n")
    assert "add --config-dir=conf" in answer(["+experiment=mine"], tmp_path).err
    assert (
        "mv conf/experiment/old.yml conf/experiment/old.yaml"
        in answer(["--config-dir=conf", "+experiment=old"], tmp_path).err
    )
    assert ", mine, " in answer(["--config-dir=conf", "+experiment=nome"], tmp_path).err
    assert "in conf: +experiment=mine" in answer(["--config-dir=conf", "--help=experiment"], tmp_path).out
    assert "with --config-dir=conf: +experiment=mine" in answer(["--help"], tmp_path).out


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("++space.adapter.rank.choices=range(1,4)", "write space.adapter.rank.choices=[A,B]"),
        ("++space.adapter.rank.choices=choice(1,4)", "write space.adapter.rank.choices=[1,4]"),
        ("adapter.rank=é", "é needs quotes; type: 'adapter.rank='\"'\"'é'\"'\"''"),
    ],
)
def test_a_refused_argument_says_what_to_type(argument: str, said: str, tmp_path: Path) -> None:
    assert said in answer([argument, "action=report"], tmp_path).err
