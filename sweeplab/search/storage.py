"""Opens a study's Optuna storage: the same study as before, or one whose space has grown."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
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
from sweeplab.runtime.errors import ConfigError, describe_error, mask_passwords
from sweeplab.search.extension import outdated, restate
from sweeplab.search.leases import CONNECT_SECONDS, Alone, Drivers, Leases
from sweeplab.search.mirror import MirroredStorage
from sweeplab.search.pruners import build_pruner, settle

DATABASE: Final = "optuna.db"
JOURNALS: Final = ("-journal", "-wal", "-shm")  # what SQLite keeps beside a database
SETTINGS: Final = "settings"  # of the study: what cannot change once trials are there


def open_study(config: StudyConfig, varied: list[Axis], folder: Path) -> tuple[optuna.Study, Drivers]:
    """The study, its trials stated in the present space, and who runs it. Raises `ConfigError` where it cannot be."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if config.study.storage is None:
        storage, pruner = open_file(config, varied, folder / DATABASE), build_pruner(config, varied)
        drivers: Drivers = Alone(storage)
        study = optuna.load_study(study_name=storage.name, storage=storage, pruner=pruner)
    else:
        study, drivers = open_server(config, varied, config.study.storage)
    with drivers.asking():
        keep_settings(study, config)
        settle(study)
    return study, drivers


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


def open_server(config: StudyConfig, varied: list[Axis], url: str) -> tuple[optuna.Study, Drivers]:
    """The study in a PostgreSQL database, and this driver's leases. Raises `ConfigError`, without a password in it."""
    if find_spec("psycopg") is None:
        raise ConfigError(
            "study.storage needs the package psycopg; pip install -c constraints.txt -e '.[postgres]', or leave it null"
        )
    import psycopg

    try:
        leases = Leases(url, str(config.study.name), config.study.lease_seconds)
        try:
            return shared_study(config, varied, url, leases), leases
        except BaseException:
            leases.close()
            raise
    except (psycopg.Error, optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        cause = " ".join(str(error).split())
        raise ConfigError(
            f"study.storage={mask_passwords(url)} cannot be used: {mask_passwords(cause)}; start the server, or mend "
            "user, host, port and database; a password may stand in PGPASSWORD or ~/.pgpass"
        ) from error


def shared_study(config: StudyConfig, varied: list[Axis], url: str, leases: Leases) -> optuna.Study:
    """The study on a server. Raises `ConfigError` for a space that has grown: others are drawing from it."""
    address = url.replace("postgresql://", "postgresql+psycopg://", 1)
    options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": CONNECT_SECONDS}}
    with leases.asking():
        leases.storage = RDBStorage(address, engine_kwargs=options)
        study = created(config, varied, leases.storage)
    if outdated(study.get_trials(deepcopy=False), {axis.key: axis.distribution() for axis in varied}):
        raise ConfigError(
            "space has grown, which a study of several drivers (study.storage) does not take; choose another study.name"
        )
    return study


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
        raise unwritten(database, error.__cause__ or error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "psycopg":  # which is not there without study.storage
            raise
        raise unwritten(database, error) from error


def unwritten(database: str, cause: BaseException) -> StoreError:
    why = describe_error(cause)
    return StoreError(
        mask_passwords(
            f"{database} cannot be written: {why}; free space, bring the server back or choose another one; the same "
            "command goes on from here"
        )
    )


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
