"""What happens to a study's folder between two runs: damage is named and set aside, and nothing is lost or doubled."""

import errno
import io
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NoReturn

import optuna
import pytest
import torch
from optuna.storages import RDBStorage
from rich.console import Console

from sweeplab.config.compose import Request
from sweeplab.execution.driver import Driver
from sweeplab.records.quarantine import _PARTIAL, read_study
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import StoreError, read_json, read_records, trial_folder, write_json, write_record
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.dashboard import _DATABASE
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources
from tests.records.test_record import base_score
from tests.study_runs import MakeRequest, Open, Standin, opened, record_of, run
from tests.trials import SpecFactory, no_words

RANKS: Final = "++space.adapter.rank.choices=[1,2,4]"
SEEDS: Final = "study.seeds=[0,1]"
LR: Final = ("++space.optimizer.lr={low: 1e-4, high: 1e-2, log: true}", "study.num_trials=6", SEEDS)
SLOW: Final = pytest.mark.slow
Damage = Callable[[Path], object]


def drive(request: Request) -> tuple[int, str]:
    """Trials finished in all, and what was printed."""
    out = io.StringIO()
    return Driver(request, Console(file=out, width=400)).run(), out.getvalue()


def told(request: Request, folder: Path) -> list[tuple[dict[str, Any], int, list[float] | None, str]]:
    """What the search knows of each trial."""
    search = opened(request.config, Driver(request, Console()).varied, folder)
    found = [(one.params, one.user_attrs["seed"], one.values, one.state.name) for one in search.own_trials()]
    search.close()
    return found


def expected(records: list[TrialRecord]) -> list[tuple[dict[str, Any], int, list[float] | None, str]]:
    return [(one.params, one.seed, [one.heldout_loss_nats_per_token or 0.0], "COMPLETE") for one in records]


def other_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")


def torn(path: Path) -> None:
    """Pages in the middle are lost, as a disk's fault would."""
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = b"\x00" * (len(data) // 2 - 4096)
    path.write_bytes(data)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


GRID: Final = (RANKS, SEEDS)
TPE: Final = (*LR, "sampler=tpe")


def shown(folder: Path) -> list[tuple[dict[str, Any], int, list[float] | None, str]]:
    """What Optuna's dashboard would show of each trial."""
    storage = RDBStorage(f"sqlite:///{folder / _DATABASE}")
    study = optuna.load_study(study_name="single", storage=storage)
    trials, names = study.trials, study.metric_names
    storage.remove_session()
    storage.engine.dispose()
    assert names == list(read_json(folder / "study.json")["objectives"])
    return [(one.params, one.user_attrs["seed"], one.values, one.state.name) for one in trials]


@pytest.mark.parametrize(
    ("space", "damage"),
    [  # slow: a database is written anew, whatever was there; one that is half one, and one that cannot be replaced
        pytest.param(GRID, lambda path: path.write_bytes(b"\x80\x04no database" * 300), id="garbage", marks=SLOW),
        pytest.param(TPE, other_database, id="foreign", marks=SLOW),
        pytest.param(TPE, torn, id="torn"),
        pytest.param(GRID, Path.unlink, id="missing", marks=SLOW),
        pytest.param(GRID, as_folder, id="folder"),
    ],
)
def test_a_database_that_is_damaged_never_matters(
    space: tuple[str, ...], damage: Damage, make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    request, folder = make_request(*space), tmp_path / "runs" / "single"
    assert drive(request)[0] == 6
    records = read_records(folder)
    assert shown(folder) == expected(records)
    before = {path: path.read_bytes() for path in folder.glob("trials/*/*.json")}
    assert len(before) == 12
    damage(folder / _DATABASE)
    assert read_study(folder).sentences == []
    num_finished, printed = drive(request)
    assert num_finished == 6
    assert len(standin_here.numbers()) == 6  # nothing ran again
    assert {path: path.read_bytes() for path in before} == before
    assert told(request, folder) == expected(records)
    if damage is as_folder:
        assert printed.count(f"{folder / _DATABASE} cannot be written (") == 1
    else:
        assert "optuna.db" not in printed
        assert shown(folder) == expected(records)
    assert [path for path in folder.iterdir() if _PARTIAL.fullmatch(path.name)] == []


def test_a_database_that_another_program_locks_never_matters(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "single"
    drive(make_request(RANKS))
    with closing(sqlite3.connect(folder / _DATABASE)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert drive(make_request(*GRID))[0] == 6
    assert shown(folder) == expected(read_records(folder))


def test_a_study_that_was_begun_before_there_was_a_trial_json_goes_on(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    """Its database says other things, which nobody reads."""
    request, folder = make_request(*TPE, "study.num_trials=9"), tmp_path / "runs" / "single"
    drive(make_request(*TPE))
    records = read_records(folder)
    before = {path: path.read_bytes() for path in folder.glob("trials/*/record.json")}
    for path in (*folder.glob("trials/*/trial.json"), folder / "search.json"):
        path.unlink()
    other_database(folder / _DATABASE)
    num_finished, printed = drive(request)
    assert num_finished == 9
    assert printed.count("6 trials have no trial.json, which was written again from their records") == 1
    assert standin_here.numbers() == list(range(9))
    assert {path: path.read_bytes() for path in before} == before
    assert told(request, folder)[:6] == expected(records)
    assert len(list(folder.glob("trials/*/trial.json"))) == 9
    assert "trial.json" not in drive(request)[1]


# slow: all of them, beside some of them
@pytest.mark.parametrize("lost", [(2, 5), pytest.param((0, 1, 2, 3, 4, 5), marks=SLOW)], ids=str)
def test_a_trial_whose_record_is_gone_runs_again_under_its_own_number(
    lost: tuple[int, ...], make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    request, folder = make_request(*LR, "sampler=random"), tmp_path / "runs" / "single"
    drive(request)
    before = {path: path.read_bytes() for path in folder.glob("trials/*/record.json")}
    for number in lost:
        (trial_folder(folder, number) / "record.json").unlink()
    num_finished, printed = drive(request)
    assert num_finished == 6
    assert printed.count("[6/6]") == 1
    assert "[7/6]" not in printed
    assert standin_here.numbers() == [0, 1, 2, 3, 4, 5, *lost]
    assert {path: path.read_bytes() for path in before} == before  # the stand-in gives the same numbers again
    assert told(request, folder) == expected(read_records(folder))


@pytest.mark.parametrize(
    ("space", "begun_before"),
    [  # slow: the two others of the four pairs
        pytest.param((RANKS, SEEDS), False, id="grid-now"),
        pytest.param((RANKS, SEEDS), True, id="grid-before", marks=SLOW),
        pytest.param((*LR, "sampler=random"), False, id="random-now", marks=SLOW),
        pytest.param((*LR, "sampler=random"), True, id="random-before"),
    ],
)
def test_records_and_the_search_lost_together_leave_no_trial_out(
    space: tuple[str, ...], begun_before: bool, make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    request, folder = make_request(*space), tmp_path / "runs" / "single"
    drive(request)
    before = [(record.params, record.seed) for record in read_records(folder)]
    shutil.rmtree(trial_folder(folder, 1))
    (trial_folder(folder, 4) / "record.json").write_text("{")
    for path in folder.glob("trials/*/trial.json") if begun_before else [folder / _DATABASE]:
        path.unlink()
    assert drive(request)[0] == 6
    after = read_records(folder)
    assert [record.number for record in after] == list(range(6))
    assert len({(repr(record.params), record.seed) for record in after}) == 6
    kept = [number for number in range(6) if number not in (1, 4)]
    assert [(after[number].params, after[number].seed) for number in kept] == [before[number] for number in kept]
    if "random" not in str(space):
        assert [(record.params, record.seed) for record in after] == before
    assert sorted(standin_here.numbers()[6:]) == [1, 4]
    assert told(request, folder) == expected(after)


def test_a_record_is_believed_where_its_trial_was_not_asked_for(open_search: Open, tmp_path: Path) -> None:
    """Records that were restored from a backup of another run."""
    options = ("sampler=random", *LR)
    folder = tmp_path / "study"
    records = [record_of(asked) for asked in run(open_search(*options))]
    moved = [*records[:3], *records[4:], records[3]]
    for number, record in enumerate(moved):
        record.number = number
        write_record(folder, record)
    search = open_search(*options)
    assert list(search.ask_all()) == []
    assert [(one.params, one.user_attrs["seed"]) for one in search.own_trials()] == [
        (record.params, record.seed) for record in moved
    ]
    aside = sorted(path.parent.name for path in folder.glob("trials/*/trial.json.set-aside"))
    assert aside == ["00003", "00004", "00005"]
    assert read_study(folder).sentences == []


def test_a_lost_journal_is_not_taken_for_the_next_search(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    """SQLite would roll a journal that was left behind back into whatever database has its name."""
    folder = tmp_path / "runs" / "single"
    folder.mkdir(parents=True)
    for end in ("-journal", "-wal", "-shm"):
        (folder / f"{_DATABASE}{end}").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(1000))
    assert drive(make_request(RANKS))[0] == 3
    assert [path.name for path in folder.glob("optuna.db*")] == [_DATABASE]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("study.json", "study"),
        ("search.json", "search"),
        ("trials/00001/trial.json", "trial that was asked for"),
        ("trials/00001/record.json", "record of this trial"),
        ("trials/00001/items.jsonl", "list of results"),
        ("base/0123.json", "score of a base"),
    ],
)
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b'{"number": 3}', b"[" * 100_000, None], ids=lambda one: repr(one)[:12]
)
def test_what_is_not_what_its_name_says_is_named_and_kept(
    name: str, what: str, content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    if name.endswith("items.jsonl") and content == b"":
        assert read_study(tmp_path).sentences == []  # no results are a list too
        return
    (said,) = read_study(tmp_path).sentences
    assert said.startswith(f"{path} is no {what} (")
    assert said.endswith(f"), and is kept as {path.name}.set-aside")
    assert "\n" not in said
    assert read_study(tmp_path).sentences == []
    aside = path.with_name(f"{path.name}.set-aside")
    assert aside.is_dir() if content is None else aside.read_bytes() == content


def test_a_study_goes_on_among_damaged_and_foreign_files(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    request, folder = make_request(RANKS), tmp_path / "runs" / "single"
    drive(request)
    (trial_folder(folder, 1) / "record.json").write_bytes(b"\x80\x04.")
    (folder / "trials" / "notes").mkdir()
    (folder / "trials" / "notes" / "items.jsonl").write_text("{}")
    (folder / "trials" / "00000 (copy)").mkdir()
    shutil.copy(trial_folder(folder, 0) / "record.json", folder / "trials" / "00000 (copy)")
    (folder / "trials" / ".DS_Store").write_bytes(b"\x00")
    (folder / "trials" / "00001" / ".record.json.4711").write_text('{"number": 1, "sta')
    (folder / "study.json").write_text("[]")
    write_json(folder / "base" / "zz.json", base_score().to_dict() | {"extra": 1})
    num_finished, printed = drive(request)
    assert num_finished == 3
    assert standin_here.numbers() == [0, 1, 2, 1]
    for name in ("00001/record.json is no record", "00000 (copy)/record.json is no record", "study.json is no study"):
        assert printed.count(name) == 1
    assert "zz.json is no score of a base" in printed
    assert not (trial_folder(folder, 1) / ".record.json.4711").exists()
    assert drive(request)[1].count("set-aside") == 0


def test_records_without_a_study_keep_another_configuration_out(
    make_request: MakeRequest, standin_here: Standin, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "single"
    drive(make_request(RANKS))
    (folder / "study.json").unlink()
    with pytest.raises(
        ConfigError, match=r"records of another configuration \(adapter\.alpha_ratio was 2\.0, now 4\.0\)"
    ):
        drive(make_request(RANKS, "adapter.alpha_ratio=4"))
    assert drive(make_request(RANKS))[0] == 3
    assert standin_here.numbers() == [0, 1, 2]


def no_room(*_: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# slow: the first of all files, beside one in the middle and a late one
@pytest.mark.parametrize("writes", [pytest.param(0, marks=SLOW), 3, 7])
def test_a_disk_that_fills_up_stops_the_study_which_goes_on_later(
    writes: int, make_request: MakeRequest, standin_here: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """study.json, a record, a page of the report: whatever comes after the first so many files."""
    request, folder = make_request(RANKS, SEEDS), tmp_path / "runs" / "single"
    left, sync = iter(range(writes)), os.fsync
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", lambda number: no_room() if next(left, None) is None else sync(number))
        with pytest.raises(StoreError, match=r"cannot be written: No space left on device; free space"):
            drive(request)
    everything = [*folder.rglob("*"), *(tmp_path / "reports").rglob("*")]
    assert [path for path in everything if _PARTIAL.fullmatch(path.name)] == []
    for path in folder.glob("trials/*/record.json"):
        assert path.read_text().endswith("}\n")
    assert drive(request)[0] == 6
    records = read_records(folder)
    assert [record.number for record in records] == list(range(6))
    assert told(request, folder) == expected(records)


def test_a_worker_without_room_for_a_checkpoint_stops_at_once(
    make_spec: SpecFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half as many trials at once, as for lack of memory, would not help."""
    options = ("quantization=none", "evaluation=none")
    specs = [make_spec(number, *options, seed=number) for number in range(2)]
    resources = Resources(torch.device("cpu"), cohort_size=2, checkpoint_seconds=0.0)

    def full(path: Path, _: bytes) -> NoReturn:
        raise StoreError(f"{path} cannot be written: No space left on device; free space or choose another folder")

    monkeypatch.setattr("sweeplab.training.checkpoints.write_bytes", full)
    with pytest.raises(StoreError, match=r"checkpoint\.pt cannot be written"):
        list(run_cohort(specs, resources, lambda *_: None, no_words, list))
