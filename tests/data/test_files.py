"""Rows of files, held against what Python's json and csv and pyarrow wrote."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from sweeplab.data import files
from sweeplab.data.files import read_rows
from sweeplab.runtime.errors import ConfigError

ROWS = [
    {"instruction": "Sum, please", "output": "één\nline; 3"},
    {"instruction": 'He said "no"', "output": "日本語 \U0001f600"},
    {"instruction": "007", "output": "NA"},
]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def rows(path: Path) -> list[Any]:
    return [row for _, row in read_rows(path)]


def names(path: Path) -> list[str]:
    return [name for name, _ in read_rows(path)]


def to_csv(delimiter: str = ",", end: str = "\n") -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(ROWS[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue()


LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ids=lambda name: name
)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps(ROWS, ensure_ascii=False)),
        ("a.jsonl", LINES),
        ("a.csv", to_csv()),
        ("a.tsv", to_csv("\t")),
    ],
)
def test_every_format_and_encoding_gives_the_same_rows(name: str, text: str, encoding: str, tmp_path: Path) -> None:
    assert rows(write(tmp_path / name, text, encoding)) == ROWS


def test_utf_16_of_big_endian_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xfe\xff" + LINES.encode("utf-16-be"))
    assert rows(path) == ROWS


@pytest.mark.parametrize("text", [to_csv(";"), to_csv(end="\r\n"), to_csv() + "\n\n"])
def test_csv_of_spreadsheets(text: str, tmp_path: Path) -> None:
    assert rows(write(tmp_path / "A.CSV", text)) == ROWS


def test_rows_are_named_by_the_line_in_which_they_begin(tmp_path: Path) -> None:
    assert names(write(tmp_path / "a.csv", to_csv())) == ["line 2", "line 4", "line 5"]
    assert names(write(tmp_path / "a.jsonl", LINES.replace("\n", "\r\n\r\n"))) == ["line 1", "line 3", "line 5"]
    assert names(write(tmp_path / "a.json", json.dumps(ROWS))) == ["record 1", "record 2", "record 3"]


def test_a_parquet_column_named_twice_is_refused(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 3, names=["prompt", "completion", "completion"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"a\.parquet: the field 'completion' stands there twice; name each"):
        list(read_rows(tmp_path / "a.parquet"))


def test_parquet_gives_each_object_the_fields_that_it_had(tmp_path: Path) -> None:
    call = {"function": {"name": "weather", "arguments": {"town": "Rome"}}}
    other = {"function": {"name": "time", "arguments": {"zone": "CET"}}}
    table = [
        {
            "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call, other]}],
            "text": "d",
        },
        {"messages": [{"role": "user", "content": "c"}]},
    ] * 3
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "a.parquet", row_group_size=2)
    assert list(read_rows(tmp_path / "a.parquet")) == [(f"record {n}", row) for n, row in enumerate(table, 1)]


def test_a_row_of_csv_may_lack_its_last_values(tmp_path: Path) -> None:
    assert rows(write(tmp_path / "a.csv", "a,b\n1\n2,3\n")) == [{"a": "1"}, {"a": "2", "b": "3"}]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b" \n", r"a.json is empty; give at least two records"),
        ("a.csv", b"", r"a.csv is empty; give at least two records"),
        ("a.json", b'[{"a": 1}, {', r"a.json is not valid JSON: .*line 1 column \d+.*; correct the file"),
        ("a.jsonl", b'{"a": 1}\n{"a"', r"a.jsonl, line 2: not valid JSON: .*; correct the line"),
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": {"b": 1, "c": 2, "b": 3}}',
            r"a.jsonl, line 2: .* the field 'b' stands there twice",
        ),
        ("a.json", b'[{"a": 1, "a": 1}]', r"a.json is not valid JSON: the field 'a' stands there twice; correct"),
        ("a.json", b'{\n"a": 1}\n{\n"a": 2}', r"a.json is not valid JSON: Extra data: line 3 .*; correct the file"),
        ("a.json", b'{"a": "\xff"}', r"a.json cannot be read as UTF-8 or UTF-16 text: .*; check data.path, or save"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", r"a.csv, line 3: 3 values, and the first line names 2 fields; put quotes"),
        ("a.csv", b'a,b\n1,2\n1,"2\n', r"a.csv, line 3: not valid CSV: unexpected end of data; correct the line"),
        ("a.csv", b"a,a\n1,2\n", r"a.csv, line 1: the field 'a' stands there twice; name each field"),
        ("a.parquet", b"PAR1 no", r"a.parquet cannot be read as Parquet: .*; write the file again"),
    ],
)
def test_faulty_files_are_refused_with_place_and_remedy(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=message) as refused:
        rows(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_one_object_over_several_lines_is_one_record(tmp_path: Path) -> None:
    value = {"version": "1.0", "data": [{"q": "a"}, {"q": "b"}]}
    for indent in (None, 2):
        assert rows(write(tmp_path / "a.json", json.dumps(value, indent=indent))) == [value]


def test_a_long_value_of_csv_is_read(tmp_path: Path) -> None:
    """Python's own limit is 131,072 letters."""
    assert rows(write(tmp_path / "a.csv", f"a,b\n{'x' * 200_000},y\n")) == [{"a": "x" * 200_000, "b": "y"}]
    with pytest.raises(ConfigError, match=r"line 2: not valid CSV: field larger than field limit"):
        rows(write(tmp_path / "a.csv", f"a,b\n{'x' * (files.MOST_LETTERS + 1)},y\n"))
