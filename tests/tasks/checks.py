"""The ten tasks: how each is checked from what was left in a folder, and the commands that solve it."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from hydra import initialize_config_dir
from jsonschema import Draft202012Validator

from sweeplab.cli.shorthand import write_out
from sweeplab.config.compose import compose_conf, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError, read_facts, read_records
from sweeplab.report.evidence.formatting import describe_params
from sweeplab.runtime.errors import ConfigError

ROOT: Final = Path(__file__).parents[2]
LOSS: Final = "heldout_loss_nats_per_token"
BROKEN: Final = (
    "python -m sweeplab study.name=mended learning_rate=1e-3 space.rank.choices=(4,8) num_epochs=1 action=plan\n"
)
_QUIET: Final = f"study.objectives=[{LOSS}] evaluation=none tracking=none executor.num_workers=1"
_RANKS: Final = f"study.name=ranks space.adapter.rank.choices=[1,4] training.max_steps=6 {_QUIET}"
_MINE: Final = "data=data.jsonl data.instruction_field=ask data.output_field=reply training.max_steps=4 tracking=none"


class Failed(Exception):
    """What a task lacks, in a sentence."""


class Task(NamedTuple):
    """A task, how it is checked, and what solves it."""

    number: int
    name: str
    check: Callable[[Path], None]  # raises `Failed`
    solution: list[str]  # arguments of `python -m sweeplab`
    written: dict[str, str] = {}  # noqa: RUF012  (small files that the solver writes)
    saved_as: str | None = None  # the file that takes what the last command prints


def prepare(folder: Path) -> None:
    """Writes what the tasks need into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"ask": f"What follows {number}?", "reply": str(number + 1)} for number in range(60)]
    items = [{"question": f"What follows {number}?", "answer": str(number + 1)} for number in range(60, 66)]
    for name, lines in (("data.jsonl", rows), ("questions.jsonl", items)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "broken.txt").write_text(BROKEN, encoding="utf-8")


def _require(holds: object, lacks: str) -> None:
    if not holds:
        raise Failed(lacks)


def _read_text(path: Path) -> str:
    _require(path.is_file(), f"{path.name} is not there")
    return path.read_text(encoding="utf-8", errors="replace")


def _read_finished(folder: Path, study: str) -> list[TrialRecord]:
    try:
        records = read_records(folder / "runs" / study)
    except StoreError as error:
        raise Failed(str(error)) from error
    finished = [record for record in records if record.status is Status.FINISHED]
    _require(finished, f"study {study} has no finished trial in runs/")
    _require(len(finished) == len(records), f"study {study} has trials that did not finish")
    return finished


def _check_plan(folder: Path) -> None:
    numbers = set(re.findall(r"\d+", _read_text(folder / "1.txt").replace(",", "").replace("_", "")))
    _require({"8192", "32768"} <= numbers, f"1.txt has {', '.join(sorted(numbers)) or 'no number'}")
    trials = [path.parent.parent.parent.name for path in folder.glob("runs/*/trials/*/record.json")]
    _require("single" not in trials, "a trial was trained for it")


def _check_ranks(folder: Path, seeds: tuple[int, ...] | None = None) -> None:
    found = _read_finished(folder, "ranks")
    pairs = sorted((record.params.get("adapter.rank"), record.seed) for record in found)
    first = [(rank, seed) for rank in (1, 4) for seed in (0, 1)]
    expected = first if seeds is None else [(rank, seed) for rank in (1, 4) for seed in seeds]
    extended = [(rank, seed) for rank in (1, 4) for seed in (0, 1, 2)]
    _require(pairs == expected or (seeds is None and pairs == extended), f"study ranks has (rank, seed) {pairs}")
    facts = read_facts(folder / "runs" / "ranks")
    _require(facts is not None and list(facts.objectives) == [LOSS], "its objective is not the held-out loss")
    for record in found:
        _require(record.config["training"]["max_steps"] == 6, "training.max_steps is not 6")
        _require(not record.config["evaluation"]["tasks"], "tasks were scored")


def _check_extension(folder: Path) -> None:
    _check_ranks(folder, (0, 1, 2))
    numbers = {
        (record.params["adapter.rank"], record.seed): record.number for record in _read_finished(folder, "ranks")
    }
    later = [number for (_, seed), number in numbers.items() if seed == 2]
    _require(min(later) > max(set(numbers.values()) - set(later)), "the first trials were trained again")


def _check_own_data(folder: Path) -> None:
    (data,) = {json.dumps(record.config["data"]) for record in _read_finished(folder, "mine")}
    _check_data(json.loads(data))


def _check_data(data: dict[str, Any]) -> None:
    named = Path(str(data.get("path"))).name, data.get("instruction_field"), data.get("output_field")
    _require(named == ("data.jsonl", "ask", "reply"), f"it was trained on {named}")


def _check_own_test(folder: Path) -> None:
    found = _read_finished(folder, "tested")
    _check_data(found[0].config["data"])
    _require(all("own" in record.scores for record in found), "no trial has a score of your own questions")
    facts = read_facts(folder / "runs" / "tested")
    named = [] if facts is None else list(facts.objectives)
    _require(named and named[0].startswith("scores.own."), f"its objective is {named}")


def _check_comparison(folder: Path) -> None:
    ranks = {record.config["adapter"]["rank"] for record in _read_finished(folder, "eight")}
    _require(ranks == {8}, f"study eight has ranks {ranks}")
    pages = [path for path in folder.glob("reports/*-and-*/answer.json") if {"ranks", "eight"} <= _words(path)]
    _require(pages, "reports/ has no comparison of ranks and eight")


def _words(path: Path) -> set[str]:
    return set(path.parent.name.split("-and-"))


def _check_export(folder: Path) -> None:
    there = {path.name for path in (folder / "exported").glob("*")}
    _require({"config.json", "model.safetensors", "README.md"} <= there, f"exported has {sorted(there)}")


def _check_key(folder: Path) -> None:
    text = "".join(_read_text(folder / "8.txt").split())
    _require(re.search(r"training\.gradient_clip=1(\.0)?$", text), f"8.txt says {text}")


def _check_mended(folder: Path) -> None:
    words = shlex.split(_read_text(folder / "9.txt").replace("\\\n", " ").strip().partition("\n")[0])
    arguments = words[words.index("sweeplab") + 1 :] if "sweeplab" in words else words
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = to_study_config(compose_conf(written := write_out(arguments)), "single", written)
    except (ConfigError, Exception) as error:  # whatever Hydra makes of it
        raise Failed(f"9.txt: {str(error).splitlines()[0]}") from error
    meant = (config.action, config.study.name, config.training.epochs, config.optimizer.to_dict().get("lr"))
    _require(meant == ("plan", "mended", 1, 1e-3), f"9.txt has action, name, epochs and rate {meant}")
    choices = config.space.get("adapter", {}).get("rank", {}).get("choices")
    _require(choices == [4, 8], f"9.txt varies the rank over {choices}")


def _check_answer(folder: Path) -> None:
    text = _read_text(folder / "10.json")
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise Failed(f"10.json is no JSON: {error}") from error
    schema = json.loads((ROOT / "docs" / "answer.schema.json").read_text(encoding="utf-8"))
    _require(Draft202012Validator(schema).is_valid(answer), "10.json does not fit docs/answer.schema.json")
    _require(answer["study"] == "ranks", f"10.json is of study {answer['study']}")
    means = {rank: _find_mean(folder, rank) for rank in (1, 4)}
    best = min(means, key=lambda rank: means[rank])
    leading = answer["leading"]
    named = "none" if leading is None else describe_params(leading["params"])
    _require(named == f"rank={best}", f"10.json says that {named} leads, and the records rank={best}")


def _find_mean(folder: Path, rank: int) -> float:
    found = [one for one in _read_finished(folder, "ranks") if one.params.get("adapter.rank") == rank]
    _require(found, f"study ranks has no finished trial of rank {rank}")
    return sum(one.heldout_loss_nats_per_token or 0.0 for one in found) / len(found)


TASKS: Final = [
    Task(
        1,
        "plan",
        _check_plan,
        ["study.name=counted space.adapter.rank.choices=[4,16] action=plan"],
        {"1.txt": "rank 4: 8,192; rank 16: 32,768\n"},
    ),
    Task(2, "run", _check_ranks, [f"{_RANKS} study.seeds=[0,1]"]),
    Task(3, "extend", _check_extension, [f"{_RANKS} study.seeds=[0,1,2]"]),
    Task(4, "own data", _check_own_data, [f"study.name=mine {_MINE} {_QUIET.replace(' tracking=none', '')}"]),
    Task(
        5,
        "own test",
        _check_own_test,
        [
            f"study.name=tested {_MINE} evaluation=own evaluation.path=questions.jsonl "
            "study.objectives=[scores.own.exact_match] executor.num_workers=1"
        ],
    ),
    Task(
        6,
        "compare",
        _check_comparison,
        [
            f"study.name=eight adapter.rank=8 study.seeds=[0,1,2] training.max_steps=6 {_QUIET}",
            "action=compare studies=[ranks,eight]",
        ],
    ),
    Task(
        7,
        "export",
        _check_export,
        ["study.name=ranks action=export trial=best export.kind=merged export.path=exported"],
    ),
    Task(8, "find a key", _check_key, ["--help gradient"], {"8.txt": "training.gradient_clip=1.0\n"}),
    Task(
        9,
        "mend a mistake",
        _check_mended,
        ["study.name=mended optimizer.lr=1e-3 space.adapter.rank.choices=[4,8] training.epochs=1 action=plan"],
        {
            "9.txt": "python -m sweeplab study.name=mended optimizer.lr=1e-3 'space.adapter.rank.choices=[4,8]' "
            "training.epochs=1 action=plan\n"
        },
    ),
    Task(10, "for a program", _check_answer, ["study.name=ranks action=report --json"], saved_as="10.json"),
]


def score(folder: Path) -> dict[int, str | None]:
    """What each task lacks, by its number; None where it succeeded."""
    found: dict[int, str | None] = {}
    for task in TASKS:
        try:
            task.check(folder)
            found[task.number] = None
        except Failed as lack:
            found[task.number] = str(lack)
    return found
