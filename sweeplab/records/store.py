"""Writes and reads the files of a study. A file is written completely or not at all."""

import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from safetensors import SafetensorError

from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord

_ELSEWHERE: Final = "choose another folder (study.runs_dir, study.reports_dir or export.path)"
_MOST_DIGITS: Final = 25  # of a whole number
_HALF_LETTER: Final = re.compile(r"\\u[dD][89a-fA-F]")


class StoreError(Exception):
    """A file that cannot be written or read; the message names the file and the cause."""


def make_folder(folder: Path) -> None:
    """Creates the folder where it is missing. Raises `StoreError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be created: {error.strerror}; {_ELSEWHERE}") from error


def refuse_unwritable(folder: Path) -> None:
    """Raises `StoreError` where the folder could not be created or written, and leaves nothing behind."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise StoreError(f"{folder} cannot be created: {there} is a file; {_ELSEWHERE}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StoreError(f"{folder} cannot be written: {there} is read-only for this user; {_ELSEWHERE}")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns errors of a library that writes into `folder` into a `StoreError` that names the folder and the cause."""
    make_folder(folder)
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{folder} cannot be written: {error}; free space or {_ELSEWHERE}") from error


def write_text(path: Path, text: str) -> None:
    """Writes the text in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def partial_of(path: Path) -> Path:
    """The name of a temporary file that will replace `path`. It is unique, also among several machines."""
    return path.with_name(f".{path.name}.{os.getpid()}{secrets.randbits(32):010d}")


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` in one step: a reader sees the old file or the new one, also after a power cut.

    Raises `StoreError` naming the file where the disk is full or the folder is not writable.
    """
    make_folder(path.parent)
    partial = partial_of(path)
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{path} cannot be written: {error.strerror}; free space or {_ELSEWHERE}") from error


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as strict JSON; NaN and infinity are errors, since JSON does not have them."""
    write_text(path, to_json(value))


def to_json(value: Any) -> str:
    """`value` as the text of a JSON file."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises `StoreError` where it is missing or not JSON."""
    try:
        return strict_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def read_json_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines. Raises `StoreError` where it is missing or damaged."""
    try:  # not splitlines: a text may hold U+2028
        return [strict_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def strict_json(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError`, also for numbers and letters that could not be written again."""

    def refuse(number: str) -> NoReturn:
        raise ValueError(f"{number[:20]} is no number that can be stored")

    def whole(number: str) -> int:
        return int(number) if len(number) < _MOST_DIGITS else refuse(number)

    def fraction(number: str) -> float:
        return value if math.isfinite(value := float(number)) else refuse(number)

    value = json.loads(text, parse_constant=refuse, parse_int=whole, parse_float=fraction)
    if _HALF_LETTER.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def trial_folder(study_folder: Path, number: int) -> Path:
    return study_folder / "trials" / f"{number:05d}"


def _list_trial_folders(study_folder: Path) -> list[Path]:
    """The folders of trials by number; other folders beside them are ignored."""
    folders = [path for path in study_folder.glob("trials/*") if path.name.isascii() and path.name.isdigit()]
    return sorted(folders, key=lambda path: int(path.name))


def record_path(study_folder: Path, number: int) -> Path:
    return trial_folder(study_folder, number) / "record.json"


def trial_files(study_folder: Path, name: str) -> list[Path]:
    """The file `name` of every trial that has one, by number."""
    return [path for folder in _list_trial_folders(study_folder) if (path := folder / name).exists()]


def write_record(study_folder: Path, record: TrialRecord) -> None:
    write_json(record_path(study_folder, record.number), record.to_dict())


def read_record(path: Path) -> TrialRecord:
    """Reads a record. Raises `StoreError` for a damaged file."""
    try:
        return TrialRecord.from_dict(read_json(path))
    except ValueError as error:
        raise StoreError(f"{path} is no record: {error}; move it out of the way") from error


def read_records(study_folder: Path) -> list[TrialRecord]:
    """All records of a study by number. Raises `StoreError` as `read_record` does."""
    return [read_record(path) for path in trial_files(study_folder, "record.json")]


def base_path(study_folder: Path, key: str) -> Path:
    return study_folder / "base" / f"{key}.json"


def base_items_path(study_folder: Path, key: str) -> Path:
    """Of the base's results by item, with what it was asked."""
    return study_folder / "base" / f"{key}.items.jsonl"


def write_base_score(study_folder: Path, score: BaseScore, items: Iterable[Any]) -> None:
    """Writes the score of a base. Its items are written first, so that a score never lacks them."""
    write_json_lines(base_items_path(study_folder, score.key), items)
    write_json(base_path(study_folder, score.key), score.to_dict())


def read_base_score(path: Path) -> BaseScore:
    """Reads the score of a base. Raises `StoreError` for a damaged file."""
    try:
        return BaseScore.from_dict(read_json(path))
    except ValueError as error:
        raise StoreError(f"{path} is no score of a base: {error}; move it out of the way") from error


def known_base_score(study_folder: Path, key: str, elsewhere: bool) -> BaseScore | None:
    """What the study has of this key or, where `elsewhere`, takes over from a study beside it; None: not scored yet.

    Raises `StoreError` as `read_base_score` does, for the study's own file.
    """
    own = base_path(study_folder, key)
    if own.exists():
        return read_base_score(own)
    for path in sorted(study_folder.parent.glob(f"*/base/{key}.json")) if elsewhere else []:
        try:
            score = read_base_score(path)
            items = base_items_path(path.parents[1], key).read_bytes()
        except (StoreError, OSError):  # a damaged file of another study is ignored
            continue
        write_bytes(base_items_path(study_folder, key), items)
        write_json(own, score.to_dict())
        return score
    return None


def read_base_scores(study_folder: Path) -> list[BaseScore]:
    """All base scores of a study by key. Raises `StoreError` as `read_base_score` does."""
    return [read_base_score(path) for path in sorted(study_folder.glob("base/*.json"))]


def set_aside(path: Path) -> Path:
    """Renames a damaged or foreign file, so that it is not lost but not read again; returns the new path.

    Raises `StoreError` where it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.set-aside")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.set-aside-{number}")
    try:
        path.rename(aside)
    except OSError as error:
        raise StoreError(f"{path} cannot be set aside: {error.strerror}; move it out of the way") from error
    return aside


def write_facts(study_folder: Path, facts: StudyFacts) -> None:
    write_json(study_folder / "study.json", facts.to_dict())


def read_facts(study_folder: Path) -> StudyFacts | None:
    """The facts of the study, or None where it is new. Raises `StoreError` for a damaged file."""
    path = study_folder / "study.json"
    if not path.exists():
        return None
    try:
        return StudyFacts.from_dict(read_json(path))
    except ValueError as error:
        raise StoreError(f"{path} is no study: {error}; move it out of the way") from error
