"""What new users type: each mistake is one line with what to type instead, and exit code 2.

What files tell before a worker starts is in `planning/test_early.py`, what only a worker can in `test_mistakes.py`.
"""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeplab.cli.arguments import check_arguments
from sweeplab.runtime.errors import ConfigError
from tests.hostile import answer
from tests.study_runs import QUICK

Prepare = Callable[[Path], None]


def nothing(_: Path) -> None:
    pass


def data_with_other_fields(folder: Path) -> None:
    rows = [{"q": f"Say {number}.", "reply": str(number)} for number in range(4)]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))


def chat(folder: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (folder / "chat.jsonl").write_text("\n".join([json.dumps({"messages": turns})] * 4))


def folder_beside(folder: Path) -> None:
    (folder / "models").mkdir()


TWENTY: list[tuple[str, str, Prepare, str]] = [
    ("typo in a group", "adaptr=lora", nothing, r"adaptr is no key .*; type adapter=lora"),
    (
        "typo in a key",
        "adapter.rnak=4",
        nothing,
        r"adapter\.rnak is no key .* --help adapter` .*; type adapter\.rank=4",
    ),
    ("typo in an option", "adapter=lroa", nothing, r"adapter=lroa does not exist; .*; did you mean lora\?"),
    ("typo in a value", "executor.device=gpu", nothing, r"executor\.device is unknown, .* one of auto, cpu, cuda"),
    (
        "a path that is not there",
        "model=modles/",
        folder_beside,
        r"model=modles/ is not there; did you mean model=models\?",
    ),
    (
        "a file that is not there",
        "data=none.json",
        nothing,
        r"data\.path must be a file, got none\.json; check the path",
    ),
    (
        "a field that is not there",
        "data=mine.jsonl evaluation=none study.objectives=[heldout_loss_nats_per_token]",
        data_with_other_fields,
        r"mine\.jsonl has no fields .*\(fields: q, reply\).*data\.instruction_field=q data\.output_field=reply",
    ),
    (
        "brackets without quotes",
        "space.adapter.rank.choices=[4, 8]",
        nothing,
        r"space\S+=\[4,: quote what holds brackets and blanks; type 'space\.adapter\.rank\.choices=\[4, 8\]'",
    ),
    ("a forgotten plus", "experiment=rank_sweep", nothing, r".* added with a plus; type \+experiment=rank_sweep"),
    (
        "a plus too much",
        "+optimizer.lr=1e-3",
        nothing,
        r"\+optimizer\.lr adds .*; type optimizer\.lr=VALUE, without a p",
    ),
    (
        "another folder",
        "action=report",
        nothing,
        r"runs/single holds no study; run it first, .*, or go to the folder where it was run",
    ),
    (
        "a unit left out",
        "plan.device_memory=14",
        nothing,
        r"plan\.device_memory must be .*; write the unit too, such as 14GB",
    ),
    ("a wrong unit", "study.budget=20minutes", nothing, r"study\.budget must be .*; try study\.budget=20min"),
    ("an unknown task", "evaluation.tasks=[hellaswg]", nothing, r"evaluation\.tasks must .*; did you mean hellaswag\?"),
    ("a comma list", "adapter.rank=4,8", nothing, r"adapter\.rank=4,8 .* write space\.adapter\.rank\.choices=\[4,8\]"),
    ("a decimal comma", "optimizer.lr=0,001", nothing, r".* a number has a point; type optimizer\.lr=0\.001"),
    ("a flag", "--rank 8", nothing, r"--rank is no flag; write adapter\.rank=8, without dashes"),
    (
        "blanks around =",
        "adapter.rank = 8",
        nothing,
        r"adapter\.rank =: no blanks stand around =; type adapter\.rank=8",
    ),
    ("a name of another project", "lora_alpha=16", nothing, r"lora_alpha is no key .*; type adapter\.alpha=16"),
    (
        "a key of another option",
        "adapter=none adapter.rank=4",
        nothing,
        r"adapter\.rank has no effect .*adapter=none.*",
    ),
    (
        "a GPU where there is none",
        "action=run executor.device=cuda",
        nothing,
        r"executor\.device needs an NVIDIA GPU, and .*, got cuda; use executor\.device=cpu; action=plan",
    ),
    (
        "messages for a model without a chat template",
        "action=run data=chat.jsonl data.style=template",
        chat,
        r"data\.style=template needs a tokenizer with a chat template, and model=tiny has none; write data\.style=ch",
    ),
    (
        "W&B without a login",
        "action=run tracking=wandb tracking.mode=online",
        nothing,
        r"tracking\.mode=online needs a login, and there is none for \S+; type wandb login, or use tracking\.mode=offl",
    ),
    ("a word", "watch", nothing, r"watch is no argument; type action=watch"),
]


@pytest.mark.parametrize(("typed", "prepare", "line"), [case[1:] for case in TWENTY], ids=[case[0] for case in TWENTY])
def test_the_mistakes_of_a_new_user_are_one_line_each_with_what_to_type(
    typed: str, prepare: Prepare, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if typed.startswith("action=run"):
        monkeypatch.setattr(sys, "executable", "/nowhere/python")  # of a worker, which is not to start
    prepare(tmp_path)
    action = [] if typed.startswith("action=") else ["action=plan"]
    found = answer([*QUICK, *action, *shlex.split(typed)], tmp_path)
    assert found.code == 2, (found.out, found.err)
    assert re.fullmatch(rf"sweeplab: {line}[^\n]*\n", found.err), found.err


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("rank=8", "adapter.rank=8"),
        ("lora.rank=8", "adapter.rank=8"),
        ("adapter.r=8", "adapter.rank=8"),
        ("lr=1e-3", "optimizer.lr=1e-3"),
        ("seed=1", "'study.seeds=[1]'"),
        ("num_epochs=3", "training.epochs=3"),
        ("+experiments=rank_sweep", "+experiment=rank_sweep"),
        ("space.rank.choices=[4,8]", "'space.adapter.rank.choices=[4,8]'"),
        ("space.lr=[1e-3,1e-4]", "'space.optimizer.lr.choices=[1e-3,1e-4]'"),
        ("space.adapter.rank=[4,8]", "'space.adapter.rank.choices=[4,8]'"),
        ("'space.adapter.rank.choices=(4,8)'", "'space.adapter.rank.choices=[4,8]'"),
        ("'study.seeds=(0,1)'", "'study.seeds=[0,1]'"),
        ("evaluation.tasks=hellaswag", "'evaluation.tasks=[hellaswag]'"),
        ("evaluation=hellaswag", "'evaluation.tasks=[hellaswag]'"),
        ("plan", "action=plan"),
        ("rank_sweep", "+experiment=rank_sweep"),
        ("help", "python -m sweeplab --help"),
        ("adapter.rank= 8", "adapter.rank=8"),
        ("adapter.rank =8", "adapter.rank=8"),
        # two mistakes at once: what is proposed has neither
        ("'space.rank.choices=(4,8)'", "'space.adapter.rank.choices=[4,8]'"),
        ("'space.rank=(4,8)'", "'space.adapter.rank.choices=[4,8]'"),
        ("space.rank=4,8", "'space.adapter.rank.choices=[4,8]'"),
        ("space.rank.values=[4,8]", "'space.adapter.rank.choices=[4,8]'"),
        ("space.adapter.rank.values=[4,8]", "'space.adapter.rank.choices=[4,8]'"),
        ("space.rank.choices=[4, 8]", "'space.adapter.rank.choices=[4, 8]'"),
        ("study.seeds = '(0,1)'", "'study.seeds=[0,1]'"),
        ("seeds= '(0,1)'", "'study.seeds=[0,1]'"),
        ("'seeds=(0,1)'", "'study.seeds=[0,1]'"),
        ("lr=0,001", "optimizer.lr=0.001"),
        ("rank = 8", "adapter.rank=8"),
        ("lr = 0,001", "optimizer.lr=0.001"),
        ("experiment = rank_sweep", "+experiment=rank_sweep"),
        ("json = true", "--json"),
    ],
)
def test_what_people_type_first_is_answered_with_the_line(typed: str, line: str, tmp_path: Path) -> None:
    found = answer([*QUICK, "action=plan", *shlex.split(typed)], tmp_path)
    assert (found.code, found.out) == (2, "")
    assert found.err.endswith(f"; type {line}\n"), found.err


def test_seeds_as_a_number_are_answered_with_a_list(tmp_path: Path) -> None:
    found = answer([*QUICK, "action=plan", "study.seeds=3"], tmp_path)
    assert found.err.endswith("try study.seeds=[0,1,2]\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["space.adapter.rank.choices=[4,8]", "~claims", "study.question="],
        ["--config-dir", "plan", "+experiment=mine"],
        ["--cfg", "job", "-m", "adapter.rank=4,8"],
        ["space={adapter: {rank: {choices: [4, 8]}}}"],
        ["space.optimizer.choices=[adamw,sgd]", "space.adapter.rank={low: 4, high: 8}"],
        ["optimizer.betas=[0.9,0.95]", "optimizer.lr=1e-3"],
        ["study.question=Is (this) all, or not?"],
    ],
)
def test_what_is_right_passes(arguments: list[str]) -> None:
    check_arguments(arguments)


def test_an_experiment_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"type \+experiment=rank_sweep$"):
        check_arguments(["experiment=rank_swep"])
    with pytest.raises(ConfigError, match=r"type \+experiment=NAME; there are: .*rank_sweep"):
        check_arguments(["exp=zzz"])
