"""Opens a study's Optuna storage: the same study as before, or one whose space has grown."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from sweeplab.config.space import Axis
from sweeplab.config.study import StudyConfig
from sweeplab.records.metrics import direction
from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import ConfigError, describe_error
from sweeplab.search.extension import outdated, restate
from sweeplab.search.mirror import MirroredStorage
from sweeplab.search.pruners import build_pruner, settle

DATABASE: Final = "optuna.db"
JOURNALS: Final = ("-journal", "-wal", "-shm")  # what SQLite keeps beside a database
SETTINGS: Final = "settings"  # of the study: what cannot change once trials are there


def open_study(config: StudyConfig, varied: list[Axis], folder: Path) -> tuple[optuna.Study, MirroredStorage]:
    """The study, its trials stated in the present space. Raises `ConfigError` where it cannot be."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, pruner = open_file(config, varied, folder / DATABASE), build_pruner(config, varied)
    study = optuna.load_study(study_name=storage.name, storage=storage, pruner=pruner)
    keep_settings(study, config)
    settle(study)
    storage.keep()
    return study, storage


def created(config: StudyConfig, varied: list[Axis], storage: RDBStorage) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        study_name=str(config.study.name),
        directions=[direction(metric) for metric in config.study.objectives],
        pruner=build_pruner(config, varied),
        load_if_exists=True,
    )


def open_file(config: StudyConfig, varied: list[Axis], database: Path) -> MirroredStorage:
    """The study in a file of SQLite's, which is this driver's alone; read once and mirrored in memory."""
    name, distributions = str(config.study.name), {axis.key: axis.distribution() for axis in varied}

    def opened() -> tuple[RDBStorage, optuna.Study, list[FrozenTrial]]:
        storage = RDBStorage(f"sqlite:///{database}")
        study = created(config, varied, storage)
        return storage, study, storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)

    try:
        storage, study, trials = opened()
        if outdated(trials, distributions):
            restate(database, name, distributions)
            storage, study, trials = opened()
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, RuntimeError) as error:  # the last: a newer Optuna
        cause = describe_error(error)
        raise ConfigError(
            f"{database} cannot be used: {cause}; free space, or choose another study.runs_dir"
        ) from error
    return MirroredStorage(storage, study, trials)


def forget_search(folder: Path) -> None:
    """Drops the search state of `folder`, if there is one, with what SQLite would take for the next one's journal."""
    for end in ("", *JOURNALS):
        (folder / f"{DATABASE}{end}").unlink(missing_ok=True)


@contextmanager
def storing(database: str) -> Iterator[None]:
    """Within it Optuna writes to `database`: one that takes nothing more, or is lost, is a `StoreError`."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        why = describe_error(error.__cause__ or error)
        raise StoreError(
            f"{database} cannot be written: {why}; free space; the same command goes on from here"
        ) from error


def keep_settings(study: optuna.Study, config: StudyConfig) -> None:
    """Refuses what would make the trials that are there mean something else. Raises `ConfigError`."""
    now = {"constraints": config.study.constraints, "warm_start": config.study.warm_start}
    kept = study.user_attrs.get(SETTINGS)
    if kept is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(SETTINGS, now)
        return
    kept = kept or {"constraints": {}, "warm_start": None}  # begun before there were such settings
    for key, value in now.items():
        if kept[key] != value:
            was = f"study.{key} was {kept[key]} when the study began, now {value}"
            raise ConfigError(f"{was}; choose another study.name")
