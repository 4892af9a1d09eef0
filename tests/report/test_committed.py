"""The reports in this repository are what the code makes of their records, byte for byte."""

from pathlib import Path
from typing import Final

import pytest

from sweeplab.report import rebuild_report

REPORTS: Final = Path(__file__).parents[2] / "reports"
SMALL: Final = ("forgetting", "repeatability")  # the fastest; the others are rebuilt by `-m slow`
NAMES: Final = sorted(path.parent.name for path in REPORTS.glob("*/records.json"))
FILES: Final = ("report.md", "report.html", "score.svg", "records.json", "items.json", "answer.json")


def test_the_reports_are_there() -> None:
    assert set(SMALL) <= set(NAMES)


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in SMALL else pytest.mark.slow) for one in NAMES])
def test_a_committed_report_is_what_its_records_give(name: str, tmp_path: Path) -> None:
    """Where it is not: `python -m sweeplab action=report study.name=NAME`, and commit what changed."""
    rebuild_report(REPORTS / name, tmp_path)
    made = {file: (tmp_path / file).read_bytes() for file in FILES if (tmp_path / file).exists()}
    kept = {file: (REPORTS / name / file).read_bytes() for file in FILES if (REPORTS / name / file).exists()}
    assert sorted(made) == sorted(kept)
    assert [file for file in made if made[file] != kept[file]] == []
