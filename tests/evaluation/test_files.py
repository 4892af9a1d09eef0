"""Files of tasks, line by line."""

import json
from pathlib import Path

from sweeplab.evaluation.files import _read_rows


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    rows = [{"sentence_good": f"The dog{end}ran.", "sentence_bad": "The dog run."} for end in "\u2028\u2029\u0085\x0b"]
    texts = [json.dumps(row, ensure_ascii=False) for row in rows]
    for end in ("\n", "\r\n"):
        (tmp_path / "blimp_causative.jsonl").write_bytes(end.join([*texts, ""]).encode())
        assert _read_rows(tmp_path / "blimp_causative.jsonl", "blimp_causative") == rows
