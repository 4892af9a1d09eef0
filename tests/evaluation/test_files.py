"""Files of tasks, line by line."""

import json
from pathlib import Path

import pytest

from sweeplab.evaluation.files import _read_rows
from sweeplab.runtime.errors import ConfigError


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    rows = [{"sentence_good": f"The dog{end}ran.", "sentence_bad": "The dog run."} for end in "\u2028\u2029\u0085\x0b"]
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    for end in ("\n", "\r\n"):
        (tmp_path / "blimp_causative.jsonl").write_bytes(end.join([*texts, ""]).encode())
        assert _read_rows(tmp_path / "blimp_causative.jsonl", "blimp_causative") == rows


def test_every_unicode_encoding_is_read_and_no_other(tmp_path: Path) -> None:
    path, row = tmp_path / "blimp_causative.jsonl", {"sentence_good": "Caf\u00e9.", "sentence_bad": "Cafe."}
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(json.dumps(row, ensure_ascii=False).encode(encoding))
        assert _read_rows(path, "blimp_causative") == [row]
    path.write_bytes(json.dumps(row, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(
        ConfigError, match=r"blimp_causative\.jsonl cannot be read as UTF-8 or UTF-16 text: .*; save it"
    ):
        _read_rows(path, "blimp_causative")
