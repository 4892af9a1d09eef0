"""What a person asks of a study while it runs or rests: a file for each wish in the study's folder, `wishes/`.

A wish is named by what it asks for, so that asking twice is asking once. Its file is written whole or not at all,
stays until the driver has done it, and so outlives a driver or a page that is killed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sweeplab.records.store import StoreError, read_json, write_json
from sweeplab.records.stored import from_plain, to_plain
from sweeplab.runtime.errors import describe_error

_FOLDER: Final = "wishes"


@dataclass(frozen=True)
class StopTrial:
    """A trial is to end now; its record says that a person stopped it."""

    trial: int

    @property
    def file_name(self) -> str:
        return f"stop-trial-{self.trial}.json"


@dataclass(frozen=True)
class StopStudy:
    """The driver is to end now, as by Ctrl-C. A driver that starts later is not meant."""

    driver: str  # token of the driver that was at work

    @property
    def file_name(self) -> str:
        return f"stop-study-{self.driver}.json"


@dataclass(frozen=True)
class AddSeed:
    """The setting of a trial is to be trained with one more seed."""

    trial: int
    seed: int

    @property
    def file_name(self) -> str:
        return f"seed-{self.seed}-of-trial-{self.trial}.json"


Wish = StopTrial | StopStudy | AddSeed
_KINDS: Final[dict[str, type[Wish]]] = {"stop_trial": StopTrial, "stop_study": StopStudy, "add_seed": AddSeed}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


def write_wish(study_folder: Path, wish: Wish) -> None:
    """Stores a wish; it is on the disk when this returns. Raises `StoreError`."""
    write_json(study_folder / _FOLDER / wish.file_name, {"kind": _NAMES[type(wish)], **to_plain(wish)})


def list_wish_files(study_folder: Path) -> list[str]:
    """Names of the files of wishes; none where there is no folder. A file that is being written is not among them."""
    try:
        return sorted(path.name for path in (study_folder / _FOLDER).iterdir() if path.name.endswith(".json"))
    except OSError:  # no wish was ever written, or the disk is gone for a moment
        return []


def read_wishes(study_folder: Path) -> tuple[list[Wish], dict[Path, str]]:
    """All wishes by name; and the files that are none, each with the reason."""
    wishes, damaged = list[Wish](), dict[Path, str]()
    for name in list_wish_files(study_folder):
        path = study_folder / _FOLDER / name
        try:
            wishes.append(_read_wish(path))
        except (StoreError, ValueError) as error:
            if path.exists():  # else it was done meanwhile
                cause = error.__cause__ if isinstance(error, StoreError) else None
                damaged[path] = describe_error(cause or error)
    return wishes, damaged


def _read_wish(path: Path) -> Wish:
    """Raises `StoreError` or `ValueError` for a damaged file, and for one that asks for another thing than its name
    says."""
    values: Any = read_json(path)
    kind = _KINDS.get(str(values.pop("kind", None))) if isinstance(values, dict) else None
    if kind is None:
        raise ValueError("it has no kind that is known")
    wish: Wish = from_plain(kind, values, "a wish")
    if wish.file_name != path.name:
        raise ValueError(f"it is {wish.file_name}")
    return wish


def remove_wish(study_folder: Path, wish: Wish) -> None:
    """Removes a wish that is done, or that nothing can be done for."""
    (study_folder / _FOLDER / wish.file_name).unlink(missing_ok=True)
