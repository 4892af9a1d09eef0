"""Every mistake of a user's is one line that names key, value and remedy, and exit code 2; nobody sees a traceback."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from sweeplab.cli.arguments import check_flags
from sweeplab.cli.errors import explain_hydra_error
from sweeplab.config.compose import compose_conf, to_study_config
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution.ranks import Reporter
from sweeplab.execution.worker import _serve
from sweeplab.runtime.errors import ConfigError
from tests.configs import OF_PYTHON
from tests.execution.executors import ReportedLink
from tests.hostile import answer
from tests.study_runs import QUICK, ComposeStudy, run_cli

Spoil = Callable[[Path], None]


def nothing(_: Path) -> None:
    pass


def file_in_the_way(folder: Path) -> None:
    (folder / "runs").write_text("")


def folder_without_model(folder: Path) -> None:
    (folder / "base").mkdir()


def pickled_model(folder: Path) -> None:
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text("{}")
    (folder / "base" / "pytorch_model.bin").write_bytes(b"\x80\x04.")


CASES: list[tuple[list[str], Spoil, str]] = [
    (["action=report"], nothing, r"runs/single holds no study; run it first, with the same study\.name, or go to"),
    (["--rank", "8"], nothing, r"--rank is no flag; write adapter\.rank=8, without dashes"),
    (["adapter.rnak=4"], nothing, r"adapter\.rnak is no key .*--help adapter` lists .*; type adapter\.rank=4"),
    (["+adapter.rnak=4"], nothing, r"adapter\.rnak is no key .*; type adapter\.rank=4"),
    (["adapter.rank=four"], nothing, r"adapter\.rank must be a whole number, got four; give one, such as 4"),
    (
        ["adapter.rank=0"],
        nothing,
        r"adapter\.rank must be at least 1, got 0; use a whole number from 1, or adapter=none quant",
    ),
    (["adapter=lroa"], nothing, r"adapter=lroa does not exist; there are: .*, lora, .*; did you mean lora\?"),
    (["adapter=3"], nothing, r"Config group override must be a string.* such as adapter=lora"),
    (
        ["adapter.rank=1,2"],
        nothing,
        r"adapter\.rank=1,2 holds several values; .* space\.adapter\.rank\.choices=\[1,2\]",
    ),
    (["+experiment=rank_swep"], nothing, r"experiment=rank_swep does not exist; .*did you mean rank_sweep\?"),
    (
        ["experiment=rank_sweep"],
        nothing,
        r"experiment=rank_sweep: an experiment is added with a plus; type \+experiment=rank_sweep",
    ),
    (
        ["space.adapter.rank.choices=[1,2"],
        nothing,
        r"space\.adapter\.rank\.choices=\[1,2 cannot be read: .*; write key=",
    ),
    (["space={adapter: {rank: {low: 3, high: 1}}}"], nothing, r"space\.adapter\.rank needs choices, or numbers low be"),
    (["study.runs_dir=runs"], file_in_the_way, r"runs/single cannot be created: .*; choose another folder"),
    (
        ["executor.cohort_size=0"],
        nothing,
        r"executor\.cohort_size must be auto or a whole number from 1, got 0; try auto",
    ),
    (["executor.cohort_size=many"], nothing, r"executor\.cohort_size must be auto or a whole number .*, got many; try"),
    (["executor.cohort_size=2.5"], nothing, r"executor\.cohort_size must be auto or a whole number .*, got 2\.5; try"),
    (["executor.cohort_size=true"], nothing, r"executor\.cohort_size must be auto or a whole number .*, got true; try"),
    (
        ["executor.cohort_size=4", "study.objectives=[phases.train.seconds]"],
        nothing,
        r"executor\.cohort_size must be 1 for study\.objectives=\[phases\.train\.seconds\], .*, got 4; use exec",
    ),
    (["data=json", "data.path=none.json"], nothing, r"data\.path must be a file, got none\.json; check the path"),
    (
        ["model=local", "model.path=base"],
        folder_without_model,
        r"model\.path must be a folder with a config\.json, got",
    ),
    (
        ["model=local", "model.path=base"],
        pickled_model,
        r"model\.path must hold \*\.safetensors .*; convert it with sav",
    ),
    (
        ["training.max_steps=99999999999999999999"],
        nothing,
        r"training\.max_steps holds a whole number beyond .*; write a smaller one",
    ),
    (
        ["adapter.rank=99999999999999999999"],
        nothing,
        r"adapter\.rank must be at most 65536, got .*; give a smaller one",
    ),
    (["space.adapter.rank.choices=[4,70000]"], nothing, r"adapter\.rank must be at most 65536, got 70000; give a smal"),
    (["optimizer.lr=\u22121e-4"], nothing, r".* cannot be read, since \u2212 is not .*; type: optimizer\.lr=-1e-4"),
    (["adapter.rank=\uff18"], nothing, r".* cannot be read, since \uff18 is not .*; type: adapter\.rank=8"),
    (["space.adapter.rank.choices=\u201c[2,4]\u201d"], nothing, r".*; type: 'space\.adapter\.rank\.choices=\[2,4\]'"),
    (["adapter.rank="], nothing, r"adapter\.rank must be a whole number, got ''; give one"),
    (['adapter.rank="8 "'], nothing, r"adapter\.rank must be a whole number, got '8 '; give one"),
]


@pytest.mark.parametrize(("overrides", "spoil", "message"), CASES, ids=[" ".join(case[0])[:40] for case in CASES])
def test_a_mistake_is_one_line_and_exit_code_2(
    overrides: list[str], spoil: Spoil, message: str, tmp_path: Path
) -> None:
    spoil(tmp_path)
    found = answer([*QUICK, *overrides], tmp_path)
    assert found.code == 2, found.err
    assert found.out == ""
    assert re.fullmatch(rf"sweeplab: {message}[^\n]*\n", found.err), found.err
    assert not OF_PYTHON.search(found.err)


@pytest.mark.parametrize(("overrides", "spoil", "message"), CASES[:12:11], ids=["checked", "read by Hydra"])
def test_a_process_of_its_own_answers_a_mistake_as_well(
    overrides: list[str], spoil: Spoil, message: str, tmp_path: Path
) -> None:
    done = run_cli(tmp_path, *QUICK, *overrides)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(rf"sweeplab: {message}[^\n]*\n", done.stderr), done.stderr


def explanation(*overrides: str) -> str:
    with pytest.raises((HydraException, ConfigError)) as mistake:
        to_study_config(compose_conf(overrides), "single", overrides)
    error = mistake.value
    said = explain_hydra_error(error) if isinstance(error, HydraException) else str(error)
    assert "\n" not in said
    return said


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adaptor=lora", r"^adaptor is no key of the configuration; .*; did you mean adapter\?$"),
        ("study.sed=1", r"^study\.sed is no key .*; did you mean study\.seeds\?$"),
        ("optimizer.foo=1", r"^optimizer\.foo is no key .* lists them all$"),
        ("zzz=1", r"^zzz is no key .* lists them all$"),
        ("rank=8", r"^rank is no key .*; did you mean adapter\.rank\?$"),
        ("lr=1e-3", r"^lr is no key .*; did you mean optimizer\.lr\?$"),
        ("adaptor.rank=8", r"^adaptor\.rank is no key .*; did you mean adapter\.rank\?$"),
        ("trainin.epohcs=8", r"^trainin\.epohcs is no key .*; did you mean training\.epochs\?$"),
        (
            "adapter.targets=[q_proj]",
            r"^adapter\.targets is no key .*; switch matrices on with adapter\.lora_query, .*head$",
        ),
        ("target_modules=[q_proj]", r"^target_modules is no key .*; switch matrices on with adapter\.lora_query, "),
        ("batch_size=8", r"^batch_size is no key .*; did you mean training\.micro_batch_size\?$"),
        ("quantization=4bit", r"^quantization=4bit does not exist; .*; did you mean nf4_dq\?$"),
        ("quantization=8bit", r"^quantization=8bit does not exist; .*; did you mean int8\?$"),
        ("tracking=8bit", r"^tracking=8bit does not exist; there are: none, wandb$"),
        ("optimizer.learning_rate=1", r"; did you mean optimizer\.lr\?$"),
        (
            "optimizer.momentum=1",
            r"^optimizer\.momentum is no argument of torch\.optim\.AdamW, which takes lr, betas, ",
        ),
        (
            "claims=[{foo: 1}]",
            r"^claims holds an entry with foo, which is no key of one; choose from words, source, metric",
        ),
        ("claims=[{margin: big}]", r"^claims\[0\]\.margin must be a number from 0, got big; "),
        ("claims=[{between: 3}]", r"^claims\[0\]\.between must be a list, got 3; give a list, such as \[1,2\]$"),
        ("data.parts=[{foo: 1}]", r"^data\.parts holds an entry with foo, .*; choose from path, weight$"),
        ("study={sed: 1}", r"^study\.sed is no key .*; type 'study\.seeds=\[1\]'$"),
        (
            "adapter.rank=[4,8]",
            r"must be a whole number, .*; to vary it, write space\.adapter\.rank\.choices=\[4,8\]$",
        ),
        ("study.name=[4,8]", r"^study\.name must be a text, got \[4, 8\]; take brackets and braces away$"),
        ("++space.adapter.rank.choices=4,8", r"^space\.ada.*; write space\.adapter\.rank\.choices=\[4,8\]$"),
        ("study.seeds=0,1", r"^study\.seeds=0,1 holds several values; write study\.seeds=\[0,1\]$"),
        ("optimizer=adamw,sgd", r"; to vary it, write space\.optimizer\.choices=\[adamw,sgd\]$"),
        ("+experiment=alpha,batch", r"holds several values; give one of them, or add -m for a study of each$"),
        ("model=7b", r"^model=7b does not exist; there are: hub, .*tiny.*$"),
        ("study.seeds=3", r"^study\.seeds must be distinct whole numbers, got 3; try study\.seeds=\[0,1,2\]$"),
        (
            "adapter.rank=null",
            r"^adapter\.rank must be a whole number, got null; give a value, since it cannot be nu",
        ),
        ("adapter.alpha_ratio=big", r"^adapter\.alpha_ratio must be a number, got big; give one, such as 0\.5$"),
        ("adapter.lora_key=maybe", r"^adapter\.lora_key must be true or false, got maybe; give one of the two$"),
        ("study=x", r"^study must be a mapping, got x; write study\.KEY=VALUE$"),
        ("++space=3", r"^space must be a mapping, got 3; give one, such as \{NAME: VALUE\}$"),
        ("~training.epochs", r"^training\.epochs is missing; give training\.epochs=\.\.\.$"),
        ("word", r"^word cannot be read: .*; write key=value"),
        ("optimizer.lr=[1", r"^optimizer\.lr=\[1 cannot be read: .*; write key=value, and quote"),
        ("++space.a=[1", r"^space\.a=\[1 cannot be read: "),
        ("+adapter=lora", "^adapter appears more than once in the final defaults list$"),
    ],
)
def test_what_hydra_refuses_is_explained(override: str, message: str) -> None:
    needed = ["data=mixture"] if override.startswith("data.parts") else []
    assert re.search(message, explanation(*needed, override))


@pytest.mark.usefixtures("hydra")
def test_several_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["optimizer.lrr=1", "adapter.rnak=4", "training.max_steps=5", "space.adapter.rank.choices=[4,8]", "zzz=1"]
    monkeypatch.setattr(sys, "argv", ["sweeplab", *typed])
    said = explanation(*typed)
    assert said.startswith("optimizer.lrr is no key of the configuration; ")
    assert said.endswith("; type optimizer.lr=1; nor is adapter.rnak, type adapter.rank=4; nor is zzz")
    assert "zzz" not in explanation("adapter.rank_=4")  # which another program typed
    said = explanation("optimizer.lr=-1", "adapter.rank=-4", "training.max_steps=-5")
    rules = said.split("; also, ")
    assert [rule.partition(" must be ")[0] for rule in rules] == ["adapter.rank", "optimizer.lr", "training.max_steps"]
    assert all("; " in rule for rule in rules)  # each with its remedy


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--adapter.rank=8"], "--adapter.rank=8 is no flag; write adapter.rank=8, without dashes"),
        (["action=plan", "--rank", "8"], "--rank is no flag; write adapter.rank=8, without dashes"),
        (["-adapter.rank=8"], "-adapter.rank=8 is no flag; write adapter.rank=8, without dashes"),
        (["--learning-rate", "--foo"], "--learning-rate is no flag; write optimizer.lr=..., without dashes"),
        (["--foo=1"], "--foo=1 is no flag; write KEY=1, without dashes"),
        (["--cfg", "job", "-m", "--multi", "-p", "adapter", "-cjob", "optimizer.lr=-1", "--hydra-help"], None),
    ],
)
def test_a_key_that_is_written_as_a_flag_is_explained(arguments: list[str], said: str | None) -> None:
    if said is None:
        check_flags(arguments)
        return
    with pytest.raises(ConfigError) as mistake:
        check_flags(arguments)
    assert str(mistake.value) == said


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("override", "key"), [("+foo=1", "foo"), ("+adapter.rnak=1", "adapter.rnak"), ("++study.x.y=1", "study.x")]
)
def test_a_key_that_nothing_reads_is_refused_also_with_a_plus(override: str, key: str) -> None:
    chosen = ["+experiment=rank_sweep", "++space.data.name.choices=[a]"]
    to_study_config(compose_conf(chosen), "single", chosen)
    with pytest.raises(ConfigError, match=rf"^{key} is no key of the configuration; "):
        to_study_config(compose_conf([override]), "single", [override])


def refusal(config: TrialConfig, folder: Path) -> str:
    """What the worker answers when it is given this trial."""
    executor = {"device": "cpu", "cohort_size": "auto"}
    messages: dict[str, Any] = {
        "open": {"executor": executor, "pruning": False, "num_devices": 1, "gpu_share": 1.0, "rank": 0},
        "cohort": {"specs": [TrialSpec(0, 0, {}, config, folder).to_dict()], "only_forecast": False},
        "refill": {"specs": []},
    }
    link = ReportedLink()
    with pytest.raises(KeyError, match="cohort"):  # it waits for another one
        _serve(Reporter(link), messages.pop, set())
    ended, done = (message for message in link.read() if message["kind"] not in ("alive", "doing"))
    assert (ended["kind"], ended["record"]["status"], done["kind"]) == ("ended", "refused", "done")
    return str(ended["record"]["reason"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"records\.json is empty; give at least two records$"),
        ("[", r"records\.json is not valid JSON: .*; correct the file$"),
        (
            '{"instruction": "a", "output": "b"}\n{"instr',
            r"records\.json, line 2: not valid JSON: .*; correct the line$",
        ),
        ("[]", r"^data\.path=\S+records\.json must hold at least two examples, got 0; add records$"),
        ('[{"instruction": "a", "output": "b"}]', r"at least two examples, got 1; add records$"),
        (
            '[{"q": "a", "output": "b"}]',
            r"\(fields: q, output\); .*data\.instruction_field=q data\.output_field=output, ",
        ),
    ],
)
def test_the_worker_refuses_data_in_one_line(
    text: str, message: str, compose_study: ComposeStudy, tmp_path: Path
) -> None:
    path = tmp_path / "records.json"
    path.write_text(text)
    config = compose_study(*QUICK, "quantization=none", "data=json", f"data.path={path}").trial_config()
    said = refusal(config, tmp_path)
    assert re.search(message, said)
    assert "\n" not in said


def test_the_worker_refuses_garbage_weights_in_one_line(compose_study: ComposeStudy, tmp_path: Path) -> None:
    from sweeplab.models.base import _EMBEDDED

    for path in _EMBEDDED.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"no header, no weights")
    config = compose_study(*QUICK, "quantization=none", "model=local", f"model.path={tmp_path}").trial_config()
    said = refusal(config, tmp_path)
    assert re.search(r"cannot be loaded: .*; check model\.path or model\.name", said)
    assert "\n" not in said


def test_the_worker_refuses_a_model_without_a_tokenizer_in_one_whole_line(
    compose_study: ComposeStudy, tmp_path: Path
) -> None:
    from sweeplab.models.base import _EMBEDDED

    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((_EMBEDDED / name).read_bytes())
    config = compose_study(*QUICK, "quantization=none", "model=local", f"model.path={tmp_path}").trial_config()
    said = refusal(config, tmp_path)
    assert re.search(r"has no readable tokenizer: .*[^:]; copy tokenizer\.json from the model$", said)
    assert "\n" not in said


MODULES = "model.modules={query:[no_such_proj],value:[v_proj]}"  # spelled as the error and README say, without a plus


def test_the_worker_refuses_a_toggle_that_matches_nothing(compose_study: ComposeStudy, tmp_path: Path) -> None:
    said = refusal(compose_study(*QUICK, "quantization=none", f"++{MODULES}").trial_config(), tmp_path)
    assert re.search(r"adapter\.lora_query=true matches no module of a llama \(no_such_proj\); .*q_proj", said)


def test_modules_need_no_plus_on_the_command_line(tmp_path: Path) -> None:
    done = run_cli(tmp_path, MODULES, "--cfg", "job", "--package", "model.modules")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [
        "#",
        "@package",
        "model.modules",
        "query:",
        "-",
        "no_such_proj",
        "value:",
        "-",
        "v_proj",
    ]


def test_patterns_need_no_plus_on_the_command_line(tmp_path: Path) -> None:
    patterns = ("adapter.rank_pattern.q_proj=4", "adapter.alpha_pattern={v_proj: 2}", "adapter.lr_pattern.mlp=0.5")
    others = ("quantization.pattern={mlp: int8}", "evaluation.gen_kwargs={max_gen_toks: 32}")
    done = run_cli(tmp_path, *patterns, *others, "--cfg", "job")
    assert (done.returncode, done.stderr) == (0, "")
    everything = OmegaConf.create(done.stdout)
    assert everything.quantization.pattern == {"mlp": "int8"}
    assert everything.evaluation.gen_kwargs == {"max_gen_toks": 32}
    said = everything.adapter
    assert said.rank_pattern == {"q_proj": 4}
    assert said.alpha_pattern == {"v_proj": 2}
    assert said.lr_pattern == {"mlp": 0.5}
