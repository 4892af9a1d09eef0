"""Opens a study's Optuna storage: the same study as before, or one whose space has grown."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import optuna
from sqlalchemy.exc import SQLAlchemyError

from sweeplab.config import ConfigError, StudyConfig
from sweeplab.records import direction
from sweeplab.store import StoreError
from sweeplab.study.extension import outdated, restate
from sweeplab.study.pruners import build_pruner, settle
from sweeplab.study.space import Axis

DATABASE: Final = "optuna.db"
JOURNALS: Final = ("-journal", "-wal", "-shm")  # what SQLite keeps beside a database
SETTINGS: Final = "settings"  # of the study: what cannot change once trials are there


def open_study(config: StudyConfig, varied: list[Axis], database: Path) -> optuna.Study:
    """The study in `database`, its trials stated in the present space. Raises `ConfigError` where it cannot be."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name, distributions = str(config.study.name), {axis.key: axis.distribution() for axis in varied}

    def opened() -> optuna.Study:
        return optuna.create_study(
            storage=f"sqlite:///{database}",
            study_name=name,
            directions=[direction(metric) for metric in config.study.objectives],
            pruner=build_pruner(config, varied),
            load_if_exists=True,
        )

    try:
        study = opened()
        if outdated(study.get_trials(deepcopy=False), distributions):
            restate(database, name, distributions)
            study = opened()
    except (
        optuna.exceptions.StorageInternalError,
        SQLAlchemyError,
        RuntimeError,
    ) as error:  # RuntimeError: of a newer Optuna
        cause = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"{database} cannot be used: {cause}; free space, or choose another study.runs_dir"
        ) from error
    keep_settings(study, config)
    settle(study)
    return study


def forget_search(folder: Path) -> None:
    """Drops the search state of `folder`, if there is one, with what SQLite would take for the next one's journal."""
    for end in ("", *JOURNALS):
        (folder / f"{DATABASE}{end}").unlink(missing_ok=True)


@contextmanager
def storing(database: Path) -> Iterator[None]:
    """Within it Optuna writes to `database`: a disk that takes nothing more is a `StoreError`."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise StoreError(f"{database} cannot be written: {cause}; free space or choose another folder") from error


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
