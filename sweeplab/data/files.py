"""Reads the rows of a file: a JSON array, JSON lines, CSV or Parquet, each row with where it stands."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from sweeplab.runtime.errors import ConfigError, refuses_any_error
from sweeplab.runtime.text_files import find_twice, parse_json, read_text

_OBJECT_OF_LINES: Final = "{\n"  # an object over several lines, which is all of a file
MOST_LETTERS: Final = 4_000_000  # of a record: about a million tokens, more than models read

_Rows = Iterator[tuple[str, Any]]


def read_rows(path: Path) -> _Rows:
    """The rows of a file with their names, `record 3` or `line 3`, counted from 1.

    A name that ends in .csv, .tsv or .parquet says the format; all else is JSON. Raises `ConfigError`.
    """
    return _READERS.get(path.suffix.lower(), _read_json)(path)


def _read_text(path: Path) -> str:
    """Raises `ConfigError`."""
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as UTF-8 or UTF-16 text: {error}; check data.path, or save the file as UTF-8 "
            "(formats: .json, .jsonl, .csv, .tsv, .parquet)"
        ) from error


def _empty_error(path: Path) -> ConfigError:
    return ConfigError(f"{path} is empty; give at least two records")


def _read_json(path: Path) -> _Rows:
    text = _read_text(path).replace("\r\n", "\n").replace("\r", "\n")  # so that lines are counted alike
    if not text.strip():
        raise _empty_error(path)
    if text.lstrip().startswith("[") or text.lstrip().startswith(_OBJECT_OF_LINES):
        try:
            value = parse_json(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not valid JSON: {error}; correct the file") from error
        rows = value if isinstance(value, list) else [value]
        yield from ((f"record {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would also split at U+2028 inside a text
        if line.strip():
            try:
                yield f"line {number}", parse_json(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{path}, line {number}: not valid JSON: {error}; correct the line") from error


def _choose_delimiter(path: Path, text: str) -> str:
    """A tab in .tsv; the semicolon that spreadsheets write where the comma is the decimal point; else the comma."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = text.partition("\n")[0]
    return ";" if ";" in header and "," not in header else ","


def _read_csv(path: Path) -> _Rows:
    """Every value as text. A row is named by the line in which it begins."""
    text = _read_text(path)
    if not text.strip():
        raise _empty_error(path)
    csv.field_size_limit(MOST_LETTERS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_choose_delimiter(path, text), strict=True)
    header: list[str] | None = None
    begin = 1
    try:
        for values in reader:
            if header is None:
                header = _check_names(f"{path}, line 1", values)
            elif len(values) > len(header):
                raise ConfigError(
                    f"{path}, line {begin}: {len(values)} values, and the first line names {len(header)} fields; put "
                    'quotes (") around texts with the delimiter'
                )
            elif values:
                yield f"line {begin}", dict(zip(header, values, strict=False))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(f"{path}, line {begin}: not valid CSV: {error}; correct the line") from error


def _check_names(where: Any, names: list[str]) -> list[str]:
    """Returns `names`. Raises `ConfigError` where one stands there twice, of which one would be lost."""
    twice = find_twice(names)
    if twice is not None:
        raise ConfigError(f"{where}: the field '{twice}' stands there twice; name each field once")
    return names


def _read_parquet(path: Path) -> _Rows:
    from pyarrow.parquet import ParquetFile

    number = 0
    with refuses_any_error(f"{path} cannot be read as Parquet", "write the file again"), ParquetFile(path) as file:
        _check_names(path, file.schema_arrow.names)
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"record {number}", _drop_nulls(row)


def _drop_nulls(value: Any) -> Any:
    """Without the fields that are null at any depth: a column has the fields of all its objects, null where one lacks
    them, such as the arguments of other tools."""
    if isinstance(value, dict):
        return {name: _drop_nulls(one) for name, one in value.items() if one is not None}
    return [_drop_nulls(one) for one in value] if isinstance(value, list) else value


_READERS: Final[dict[str, Callable[[Path], _Rows]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
