"""Text is read whatever Unicode encoding a user's program chose, and JSON loses no field."""

import codecs
import json
from pathlib import Path

import pytest

from sweeplab.runtime.text_files import parse_json, read_text

TEXT = '{"a": "\u00e9 \u4e2d \U0001f600"}\n'


@pytest.mark.parametrize(
    "data",
    [
        *(TEXT.encode(name) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
def test_every_encoding_gives_the_same_text(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    assert read_text(tmp_path / "a") == TEXT


def test_other_bytes_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(UnicodeDecodeError):
        read_text(tmp_path / "a")


def test_json_is_what_python_reads_where_no_field_stands_twice() -> None:
    for text in ('{"a": {"b": 1}, "b": [{"a": 1}, {"a": 2}]}', "[]", '"a"', "1e3"):
        assert parse_json(text) == json.loads(text)
    for text in ('{"a": 1, "a": 1}', '[{"b": {"a": 1, "b": 2, "a": 3}}]'):
        with pytest.raises(ValueError, match=r"the field 'a' stands there twice"):
            parse_json(text)
