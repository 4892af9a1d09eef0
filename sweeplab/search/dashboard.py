"""`optuna.db`: a copy of the study for Optuna's dashboard. Rebuilt at every start, updated during a run, never read."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, create_engine, delete, insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from sweeplab.runtime.errors import describe_error
from sweeplab.search.storage import name_metrics

_DATABASE: Final = "optuna.db"
_ADDRESS: Final = f"sqlite:///{_DATABASE}"  # not the path, of which an address and Optuna read %20, ? and {x} otherwise
_BESIDE: Final = ("-journal", "-wal", "-shm")  # SQLite's files beside a database; a new database would read old ones
_STUDY_ID: Final = 1
_TRIAL_TABLES: Final = (
    models.TrialUserAttributeModel,
    models.TrialSystemAttributeModel,
    models.TrialParamModel,
    models.TrialValueModel,
    models.TrialIntermediateValueModel,
    models.TrialModel,
)
_Row = dict[str, Any]


def remove_dashboard(folder: Path) -> None:
    """Removes the database of `folder`, if there is one, with SQLite's files beside it."""
    for end in ("", *_BESIDE):
        (folder / f"{_DATABASE}{end}").unlink(missing_ok=True)


def _utc(local: datetime | None) -> datetime | None:
    """Optuna's trials have local times without a time zone, its tables have UTC without one."""
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)


def _rows(trial: FrozenTrial) -> Iterator[tuple[type[Any], _Row]]:
    """The rows of a trial in Optuna's tables, each with its table."""
    own: _Row = {"trial_id": trial.number + 1}
    times = {"datetime_start": _utc(trial.datetime_start), "datetime_complete": _utc(trial.datetime_complete)}
    yield models.TrialModel, own | {"number": trial.number, "study_id": _STUDY_ID, "state": trial.state} | times
    for key, value in trial.user_attrs.items():
        yield models.TrialUserAttributeModel, own | {"key": key, "value_json": json.dumps(value)}
    for key, value in trial.system_attrs.items():
        yield models.TrialSystemAttributeModel, own | {"key": key, "value_json": json.dumps(value)}
    for key, value in trial.params.items():
        drawn_from = trial.distributions[key]
        stored = {
            "param_value": drawn_from.to_internal_repr(value),
            "distribution_json": distribution_to_json(drawn_from),
        }
        yield models.TrialParamModel, own | {"param_name": key} | stored
    for objective, value in enumerate(trial.values or []):
        number, kind = models.TrialValueModel.value_to_stored_repr(value)
        yield models.TrialValueModel, own | {"objective": objective, "value": number, "value_type": kind}
    for step, value in trial.intermediate_values.items():
        loss, loss_kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        stored = {"intermediate_value": loss, "intermediate_value_type": loss_kind}
        yield models.TrialIntermediateValueModel, own | {"step": step} | stored


def _insert(connection: Connection, trials: Iterable[FrozenTrial]) -> None:
    """Inserts trials, all rows of a table at once. Optuna's own functions use a transaction for each trial and
    attribute, which is too slow for thousands of trials."""
    by_table: dict[type[Any], list[_Row]] = {}
    for trial in trials:
        for table, row in _rows(trial):
            by_table.setdefault(table, []).append(row)
    for table, rows in by_table.items():
        connection.execute(insert(table.__table__), rows)


@cache
def _make_empty_database() -> bytes:
    """Optuna's tables, without a study. Optuna loads its whole history of migrations for them, which takes longer than
    all else in a start."""
    with closing(sqlite3.connect(":memory:")) as database:
        storage = RDBStorage("sqlite://", engine_kwargs={"creator": lambda: database, "poolclass": StaticPool})
        storage.remove_session()
        return database.serialize()


def _write_database(path: Path, study: optuna.Study) -> None:
    path.write_bytes(_make_empty_database())
    storage = RDBStorage(
        _ADDRESS,
        engine_kwargs={"creator": lambda: sqlite3.connect(path)},
        skip_compatibility_check=True,
        skip_table_creation=True,
    )
    try:
        study_id = storage.create_new_study(study.directions, study.study_name)
        assert study_id == _STUDY_ID
        if study.metric_names is not None:
            name_metrics(optuna.load_study(study_name=study.study_name, storage=storage), study.metric_names)
        with storage.engine.begin() as connection:
            _insert(connection, study.get_trials(deepcopy=False))
    finally:
        storage.remove_session()
        storage.engine.dispose()


class Dashboard:
    """The database of one study. When it cannot be written, `say` is called once and nothing more is written."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._path = folder / _DATABASE
        self._say = say
        self._connection: Connection | None = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns an error of the database into a sentence for the user: the study has all it needs in other files."""
        try:
            yield
        except (OSError, RuntimeError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            self.close()
            reason = describe_error(error.__cause__ or error)
            self._say(f"{self._path} cannot be written ({reason}): the study goes on, without Optuna's dashboard")

    def rebuild(self, study: optuna.Study) -> None:
        """Writes a new database with all trials of `study`, which replaces the old one."""
        partial = self._path.with_name(f".{_DATABASE}.{os.getpid()}")
        with self._writing():
            try:
                _write_database(partial, study)
                for end in _BESIDE:
                    self._path.with_name(f"{_DATABASE}{end}").unlink(missing_ok=True)
                partial.replace(self._path)
            finally:
                partial.unlink(missing_ok=True)
            self._connection = create_engine(_ADDRESS, creator=lambda: sqlite3.connect(self._path)).connect()
            self._connection.exec_driver_sql("PRAGMA synchronous = OFF")  # a lost database is built again
            self._connection.commit()

    def write(self, trial: FrozenTrial) -> None:
        """Writes the present state of a trial."""
        if self._connection is None:
            return
        with self._writing(), self._connection.begin():
            for table in _TRIAL_TABLES:
                self._connection.execute(delete(table.__table__).where(table.trial_id == trial.number + 1))
            _insert(self._connection, [trial])

    def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
            connection.engine.dispose()
