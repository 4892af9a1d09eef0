"""`--help` names every key with what the models and conf say of it, fits a narrow terminal, and is quick."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sweeplab import __version__
from sweeplab.__main__ import main
from sweeplab.cli.arguments import check_arguments
from sweeplab.cli.help import asked_help, describe_all, describe_group, describe_usage
from sweeplab.config.compose import compose_conf
from sweeplab.config.conf import is_group, options
from sweeplab.config.reference import describe_option
from sweeplab.config.schema import GROUPS, key_names, schema_keys, section_kinds
from sweeplab.config.study import AxisConfig, StudyConfig
from sweeplab.records.claim import ClaimConfig
from sweeplab.runtime.errors import ConfigError
from tests.study_runs import run_cli

WHOLE = describe_all()


def entries(key: str) -> list[str]:
    """What is said of a key, each in one line; several where it means something else in other options."""
    found = re.findall(rf"^  {re.escape(key)}(?:[= ].*)?$(?:\n {{4,}}.*)*", WHOLE, re.MULTILINE)
    return [" ".join(one.split()) for one in found]


def entry(key: str) -> str:
    (only,) = entries(key)
    return only


def test_it_fits_eighty_columns() -> None:
    parts = [name for name in schema_keys() if "." not in name]
    texts = [WHOLE, *map(describe_group, [*parts, "experiment"])]
    assert [line for text in texts for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("part", StudyConfig.model_fields)
def test_every_key_of_every_option_has_its_meaning(part: str) -> None:
    for kind in section_kinds(part):
        for name, field in key_names(kind).items():
            meaning = field.description
            if part in GROUPS and name == GROUPS[part].decider:
                meaning = f"set by {part}=OPTION"
            assert meaning
            assert [one for one in entries(f"{part}.{name}") if meaning in one]
    if not section_kinds(part):
        assert str(StudyConfig.model_fields[part].description) in entry(part)


@pytest.mark.parametrize("group", [*GROUPS, "evaluation", "experiment"])
def test_a_group_s_help_says_what_each_option_is(group: str) -> None:
    text = describe_group(group)
    for option in options(group):
        said = re.search(rf"^  \+?{group}={option}(.*?)(?=^  \S|\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
        assert said is not None
        assert len(said.group(1).split()) >= 2, option


def test_a_table_of_an_option_keeps_its_lines() -> None:
    own = describe_group("evaluation").splitlines()
    assert "    exact             exact_match    answer: a text, or a list of texts that" in own
    assert own[own.index("    exact             exact_match    answer: a text, or a list of texts that") + 1 :][:2] == [
        " " * 37 + "count",
        "    number            acc            answer: a number, or a list; of a response",
    ]
    assert [line.split()[:2] for line in own if line.startswith("    mmlu_global_facts ")] == [
        ["mmlu_global_facts", "mmlu_global_facts_test.jsonl"]
    ]
    assert describe_option("sampler", "nsga2").startswith("A genetic search")  # its command goes over three lines


@pytest.mark.usefixtures("hydra")
def test_the_defaults_are_those_that_compose() -> None:
    composed = compose_conf([])
    for key, expected in {
        "adapter.rank": 8,
        "optimizer.lr": 0.003,
        "training.max_length": composed.training.max_length,
        "study.max_failures": 10,
        "executor.cohort_size": composed.executor.cohort_size,
        "action": "run",
    }.items():
        assert entry(key).startswith(f"{key}={expected} ")


def test_units_choices_ranges_and_other_defaults_are_told() -> None:
    assert "[whole number from 2, in tokens]" in entry("training.max_length")
    assert "[none | all | lora_only]" in entry("adapter.bias")
    assert "[number from 0 below 1]" in entry("adapter.dropout")
    assert "[true | false]; true with dora" in entry("adapter.dora")
    assert entry("model.path") == "model.path must be given: the folder [text]"
    assert len(entries("model.name")) == 3  # embedded, local, hub
    assert entry("optimizer.nesterov").endswith("default: the class's own")


def test_entries_of_lists_and_mappings_have_their_keys() -> None:
    for name, field in ClaimConfig.model_fields.items():
        assert str(field.description) in entry(f"claims[].{name}")
    for name, field in AxisConfig.model_fields.items():
        assert str(field.description) in entry(f"space.KEY.{name}")
    assert entry("claims[].words").startswith("claims[].words must be given: ")
    assert entry("claims[].margin").endswith("[number, in the metric's unit]")
    assert entry("claims[].between").endswith("[list of (number | null) | null]")
    assert entry("space.KEY.step").endswith("[number above 0 | null]")
    assert entry("study.constraints.METRIC.max").startswith("study.constraints.METRIC.max the largest value")
    assert entry("data.parts[].path") == "data.parts[].path must be given: a file, as data.path takes it [text]"


def test_the_examples_pass_the_checks_of_a_command_line() -> None:
    usage = WHOLE[WHOLE.index("Usage") : WHOLE.index("--help GROUP")].replace("\\\n", " ")
    commands = [line.split()[3:] for line in usage.splitlines() if line.startswith("  python -m sweeplab")]
    assert len(commands) == 20
    for arguments in commands:
        named = [one.lstrip("+'").partition("=") for one in arguments if "=" in one]
        for key, _, value in named:
            if value in ("DIR", "FILE"):
                continue
            if is_group(key):
                assert value in options(key)
            else:
                assert key.removeprefix("space.").removesuffix(".choices") in schema_keys()
        check_arguments(arguments)


@pytest.mark.parametrize("arguments", [["--help=adapter"], ["--help", "adapter"], ["-h", "adapter"], ["-h=adapter"]])
def test_one_group_can_be_asked_for(arguments: list[str]) -> None:
    assert asked_help(["optimizer=sgd", *arguments]) == describe_group("adapter")
    assert "training.epochs" not in describe_group("adapter")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--help", "-m"], ["--help", "adapter=lora"]])
def test_the_commonest_are_shown_where_no_group_is_named(arguments: list[str]) -> None:
    """In a fifth of the lines of all, with every option of every group; `--help all` has every key."""
    short = asked_help(arguments) or ""
    assert len(short.splitlines()) < 150 < len(WHOLE.splitlines()) / 5
    assert short.startswith(WHOLE[: WHOLE.index("experiment:")])
    words = set(short.split())
    assert [one for group in GROUPS for one in options(group) if not {one, f"{group}={one}"} & words] == []
    assert [line for line in short.splitlines() if len(line) > 80] == []
    assert "adapter.rank=8" in short
    assert asked_help(["--help", "all"]) == asked_help(["--help=all"]) == WHOLE


@pytest.mark.parametrize("arguments", [[], ["action=plan"], ["--hydra-help"], ["study.name=-h"]])
def test_other_commands_are_no_question(arguments: list[str]) -> None:
    assert asked_help(arguments) is None


def test_an_unknown_group_is_one_error(tmp_path: Path) -> None:
    done = run_cli(tmp_path, "--help=adaptr")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "sweeplab: --help must name a group of keys, or a key, got adaptr; did you mean --help=adapter?\n"
    )
    with pytest.raises(
        ConfigError, match=r"^--help must name a group of keys, or a key, got colors; choose from model, "
    ):
        asked_help(["--help", "colors"])


def test_it_imports_nothing_that_only_a_study_needs() -> None:
    """What makes it quick, under 1 s of one core: nothing heavy, not even Hydra."""
    program = (
        "import sys; sys.argv[1:] = ['--help']; from sweeplab.__main__ import main; main();"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{describe_usage()}\n"
    loaded = set(done.stderr.split())
    assert {"pydantic", "yaml"} <= loaded
    heavy = {"torch", "transformers", "lightning", "peft", "lm_eval", "wandb", "datasets", "bitsandbytes"}
    assert loaded & {*heavy, "hydra", "omegaconf", "optuna", "rich", "numpy", "pandas", "jinja2", "scipy"} == set()


def test_a_word_finds_the_keys_that_have_it() -> None:
    first = "  adapter.rank=8              rank of A and B [whole number from 1]"
    assert asked_help(["--help", "adapter.rank"]) == first
    assert str(asked_help(["--help", "rank"])).startswith(f"{first}\n  adapter.rank_pattern=")
    many = asked_help(["--help", "lora"]) or ""
    assert "adapter.lora_query" in many
    with pytest.raises(ConfigError, match=r"got epohcs; did you mean --help=training\.epochs\?$"):
        asked_help(["--help", "epohcs"])


def found_keys(word: str) -> list[str]:
    return re.findall(r"^  (\w[\w.\[\]]*)", str(asked_help(["--help", word])), re.MULTILINE)


def test_names_come_before_meanings_and_what_always_has_an_effect_before_other_options() -> None:
    assert found_keys("norm") == ["evaluation.normalize", "adapter.train_norms", "training.gradient_clip"]
    assert found_keys("NORM") == found_keys("norm")
    steps = found_keys("steps")
    assert steps[:2] == ["training.max_steps", "schedule.warmup_steps"]
    assert {"optimizer.ns_steps", "pruner.n_startup_steps"} < set(steps[2:])
    assert found_keys("seed")[0] == "sampler.seed"
    assert "sampler.seed" not in steps


def test_the_version_is_sweeplab_s_and_those_of_what_it_stands_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sweeplab", "--version"])
    main()
    rows = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert rows["sweeplab"] == __version__
    assert rows["torch"] == metadata.version("torch")
    assert rows["hydra-core"] == metadata.version("hydra-core")
    assert len(rows) > 8
