"""The list of studies says what their files say, also of one that is damaged."""

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from sweeplab.cli.list_studies import list_studies
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.store import write_facts, write_record
from tests.study_runs import ComposeStudy


def listed(compose_study: ComposeStudy, folder: Path, width: int = 200) -> list[str]:
    out = io.StringIO()
    folders = f"study.runs_dir={folder}/runs", f"study.reports_dir={folder}/reports"
    list_studies(compose_study("action=list", *folders), Console(file=out, width=width))
    return out.getvalue().splitlines()


def test_each_study_has_its_count_its_state_and_its_best(
    compose_study: ComposeStudy,
    make_facts: Callable[..., StudyFacts],
    make_record: Callable[..., TrialRecord],
    tmp_path: Path,
) -> None:
    runs, page = tmp_path / "runs", tmp_path / "reports" / "a" / "report.html"
    for name, num_records in (("b", 0), ("a", 2)):
        write_facts(runs / name, make_facts(name=name, num_planned=2, command="run it"))
        for number in range(num_records):
            write_record(runs / name, make_record(number, {"adapter.rank": 4 * 2**number}, 0, 2.0 - number))
    (runs / "c").mkdir()
    (runs / "c" / "study.json").write_text("{}")
    page.parent.mkdir(parents=True)
    page.touch()
    lines = listed(compose_study, tmp_path)
    assert lines[:4] == [
        "a",
        "  2/2 trials, ended",
        "  best held-out loss so far: rank=8  1.000 nats/target  (one seed so far, no interval)",
        f"  report {page}",
    ]
    assert lines[4:6] == ["b", "  0/2 trials, stopped; it goes on with: run it"]
    assert lines[6] == "c"
    assert "study.json" in lines[7]
    assert all(
        len(line) <= 40 or " " not in line.strip()
        for line in listed(compose_study, tmp_path, 40)
        if str(runs) not in line
    )


def test_a_folder_without_a_study_says_so(compose_study: ComposeStudy, tmp_path: Path) -> None:
    assert listed(compose_study, tmp_path) == [f"{tmp_path}/runs holds no study; run one, or give study.runs_dir=DIR"]
