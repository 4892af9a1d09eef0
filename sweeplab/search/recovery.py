"""What something happened to: files of a study that are not what they should be, and a search that lacks records."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from optuna.storages._rdb.models import BaseModel
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeplab.config.space import Axis, Params, fits
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.items import read_trial_items
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import (
    StoreError,
    read_base_score,
    read_facts,
    read_record,
    record_path,
    set_aside,
    trial_folder,
)
from sweeplab.runtime.errors import describe_error
from sweeplab.search.queue import ENTRY, SEED, identity
from sweeplab.search.search import Compose, Search
from sweeplab.search.storage import DATABASE, JOURNALS

TABLES: Final = frozenset(BaseModel.metadata.tables)
PARTIAL: Final = re.compile(r"\..+\.(\d+|restated)")  # what a write that was cut off leaves, by `store.write_bytes`


def drop_partial(study_folder: Path) -> None:
    """Removes what killed processes had begun to write."""
    for pattern in (".*", "trials/*/.*", "base/.*"):
        for path in study_folder.glob(pattern):
            if PARTIAL.fullmatch(path.name):
                path.unlink(missing_ok=True)


def check_facts(path: Path) -> None:
    read_facts(path.parent)


def check_record(path: Path) -> TrialRecord:
    """Raises `StoreError` also where the record is another trial's."""
    found = read_record(path)
    if path.parent.name != trial_folder(path.parents[2], found.number).name:
        raise StoreError(f"it is trial {found.number}'s")
    return found


def check_search(path: Path) -> None:
    """Raises `StoreError` for a file that is no search state of Optuna's, or a damaged one."""
    if not path.is_file():
        raise StoreError("it is no file")
    try:
        with closing(sqlite3.connect(path)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (
        sqlite3.OperationalError
    ):  # locked, read-only, a full disk: not the file's fault, and said where it is opened
        return
    except sqlite3.DatabaseError as error:
        raise StoreError(str(error)) from error
    if verdict != "ok":
        raise StoreError(f"SQLite finds it damaged: {verdict}".splitlines()[0])
    if there and not there & TABLES:
        raise StoreError(f"it holds {', '.join(sorted(there))}, no tables of Optuna's")


CHECKS: Final[tuple[tuple[str, str, Callable[[Path], object]], ...]] = (
    ("study.json", "study", check_facts),
    ("trials/*/record.json", "record of this trial", check_record),
    ("trials/*/items.jsonl", "list of results", read_trial_items),
    ("base/*.json", "score of a base", read_base_score),
    (DATABASE, "search state", check_search),
)


class Stock(NamedTuple):
    """What a study's folder holds."""

    records: list[TrialRecord]  # by number
    said: list[str]  # a sentence for each file that was put aside


def take_stock(study_folder: Path) -> Stock:
    """Reads the records, and renames what is not what its name says, so that the study goes on without it.

    Raises `StoreError` where it cannot be renamed.
    """
    records: list[TrialRecord] = []
    said = []
    for pattern, what, check in CHECKS:
        for path in sorted(study_folder.glob(pattern)):
            try:
                found = check(path)
                if isinstance(found, TrialRecord):
                    records.append(found)
            except StoreError as error:
                why = describe_error(error.__cause__ or error)
                said.append(f"{path} is no {what} ({why}), and is kept as {put_aside(path).name}")
    return Stock(records, said)


def put_aside(path: Path) -> Path:
    """Renames a file, and what SQLite keeps beside a database, which would be taken for the next one's."""
    for end in JOURNALS if path.name == DATABASE else ():
        beside = path.with_name(path.name + end)
        if beside.exists():
            set_aside(beside)
    return set_aside(path)


def open_search(
    config: StudyConfig, varied: list[Axis], study_folder: Path, records: list[TrialRecord], compose: Compose
) -> tuple[Search, str | None]:
    """The search as the records have it, and a sentence where it had to be built again from them.

    Trials that it was told of but that have no record run again, under their own numbers.
    Raises `ConfigError`.
    """
    search, said = Search(config, varied, study_folder, compose), None
    if not knows_all(search, records):
        said = f"{study_folder / DATABASE} was built again from the records, which it did not all know"
        if search.own_trials():
            search.close()
            said += f"; the old one is kept as {put_aside(study_folder / DATABASE).name}"
            search = Search(config, varied, study_folder, compose)
        for trial in list(stated_again(search, records)):
            search.study.add_trial(trial)
        search.keep()
        search.close()
        search = Search(config, varied, study_folder, compose)
    search.lost.extend(lost(search, study_folder))
    return search, said


def lost(search: Search, study_folder: Path) -> list[TrialSpec]:
    """Trials that were told, and have no record."""
    return [
        search.spec_of(number, search.backlog.params_of(trial), search.backlog.seed_of(trial))
        for number, trial in enumerate(search.own_trials())
        if trial.state.is_finished() and not record_path(study_folder, number).exists()
    ]


def knows_all(search: Search, records: list[TrialRecord]) -> bool:
    """True where the search asked for the trials that the records are of."""
    trials = search.own_trials()
    return all(record.number < len(trials) and asked_for(search, trials[record.number], record) for record in records)


def asked_for(search: Search, trial: FrozenTrial, record: TrialRecord) -> bool:
    params, seed = search.backlog.params_of(trial), search.backlog.seed_of(trial)
    return identity(params) == identity(record.params) and seed == record.seed


def stated_again(search: Search, records: list[TrialRecord]) -> Iterator[FrozenTrial]:
    """A trial for each number up to the last record's, running: those with a record are told it, the others run.

    A number without a record gets a point that the records lack, or one that is drawn when it is asked.
    """
    recorded = {record.number: record for record in records if fits(record.params, search.varied)}
    entries = {repr(entry): entry for entry in search.backlog.entries}
    seeds = search.config.study.seeds
    for record in recorded.values():
        search.backlog.see(record.params, record.seed)
    points = {identity(record.params): record.params for record in recorded.values()}
    wanted = search.backlog.wanted(points.values())
    missing = iter([(one.params, one.seed) for one in wanted if not search.backlog.is_begun(one)])
    for number in range(max(recorded, default=-1) + 1):
        there = recorded.get(number)
        params, seed = next(missing, ({}, seeds[0])) if there is None else (there.params, there.seed)
        attrs: dict[str, Any] = {SEED: seed}
        entry = next((key for key, values in entries.items() if there and values.items() <= params.items()), None)
        if entry is not None:
            attrs[ENTRY] = entry
            del entries[entry]
        yield restated(search, params, attrs, there)


def restated(search: Search, params: Params, attrs: dict[str, Any], record: TrialRecord | None) -> FrozenTrial:
    """A running trial as Optuna has it, with what its pruner saw."""
    points = [] if record is None else record.heldout_losses
    return create_trial(
        state=TrialState.RUNNING,
        params=params,
        distributions={axis.key: axis.distribution() for axis in search.varied if axis.key in params},
        user_attrs=attrs,
        intermediate_values={point.step: search.signed(point.loss) for point in points},
    )
