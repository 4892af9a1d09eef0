"""How a study ends in terminals of many widths: nothing is split, the answer comes first."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from sweeplab.records.record import BaseScore, Score, StudyFacts, TrialRecord
from sweeplab.report import find_answer
from sweeplab.report.evidence.stored import StoredStudy, read_stored_study
from sweeplab.report.findings.ranked import Position, RankedRow, Ranking
from sweeplab.tracking.ending import draw_ranking, show_ending

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]
ROOT = Path(__file__).parents[2]
COMMITTED = ["rank_sweep", "rank_lr", "targets", "optimizers", "epochs", "full_finetuning"]


def shown(study: StoredStudy, width: int, folder: Path = Path("runs/x")) -> str:
    out = io.StringIO()
    show_ending(study, folder, Path("reports/x/report.html"), Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize("name", COMMITTED)
def test_no_word_and_no_number_is_split_at_any_width(name: str) -> None:
    study = read_stored_study(ROOT / "reports" / name)
    words = set(shown(study, 400).split())
    for width in (80, 40):
        text = shown(study, width)
        assert {word.removeprefix("lora=") for word in text.split() if not set(word) <= set("├─●┤│")} <= words
        for line in text.splitlines():
            is_whole = len(line) <= width or line.lstrip().startswith(("python -m", "report", "records"))
            assert is_whole or " " not in line.strip(), line


def test_the_readme_shows_how_its_study_ends() -> None:
    lines = shown(read_stored_study(ROOT / "reports" / "rank_sweep"), 80).strip().splitlines()
    last = next(place for place, line in enumerate(lines) if line.startswith("64 "))
    assert "\n".join(lines[: last + 1]) in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMITTED)
def test_the_answer_of_the_report_comes_first(name: str) -> None:
    study = read_stored_study(ROOT / "reports" / name)
    first = find_answer(study).statement
    assert " ".join(shown(study, 80).split()).startswith(f"{name}: {first}")


def test_intervals_are_drawn_to_scale() -> None:
    rows = [
        RankedRow(["4"], "0.000", "[0.000, 0.500]", [], Position(0.0, 0.0, 0.5)),
        RankedRow(["8"], "0.750", "[0.500, 1.000]", [], Position(0.75, 0.5, 1.0), is_best=True),
        RankedRow(["16"], "0.250", "", [], Position(0.25)),
        RankedRow(["base"], "2.000", "", [], Position(2.0), is_base=True),
        RankedRow(["32"], "failed", "", [], None),
    ]
    head, *lines = draw_ranking(Ranking("score", ["rank"], [], rows, 3, is_comparable=True), 30 + 21)
    plots = [line.plain.ljust(51)[30:] for line in (head, *lines[:-1])]
    assert plots == [
        "0.000           1.000",
        "●─────────┤          ",
        "          ├────●────┤",
        "     ●               ",
        "                    │",
        "                     ",
    ]
    assert [line.plain.split()[0] for line in lines if "bold" in str(line.style)] == ["8"]
    assert lines[-1].plain == "and 3 settings more in the report"


def test_a_narrow_terminal_keeps_what_was_varied_and_the_mean() -> None:
    rows = [RankedRow(["a" * 12, "b" * 12], "0.500", "[0.400, 0.600]", ["9 MiB"], Position(0.5, 0.4, 0.6))]
    ranking = Ranking("score", ["first", "second"], ["memory"], rows, 0, is_comparable=True)
    wide, narrow, narrower = ("\n".join(line.plain for line in draw_ranking(ranking, width)) for width in (80, 36, 27))
    assert "[0.400, 0.600]" in wide
    assert "9 MiB" in wide
    assert narrow.split() == ["first", "second", "mean", "a" * 12, "b" * 12, "0.500"]
    assert narrower.splitlines() == [f"0.500  first={'a' * 12}", f"       second={'b' * 12}"]


def test_runs_kept_offline_are_named_until_they_are_sent(
    make_facts: FactsFactory, make_record: RecordFactory, tmp_path: Path
) -> None:
    study = StoredStudy(make_facts(), [make_record(0, {"adapter.rank": 4})], None, [])
    assert "wandb sync" not in shown(study, 80, tmp_path)
    run = tmp_path / "wandb" / "offline-run-1"
    run.mkdir(parents=True)
    (run / "run-1.wandb").touch()
    assert f"  wandb sync {tmp_path}/wandb/offline-run-*\n" in shown(study, 80, tmp_path)
    (run / "run-1.wandb.synced").touch()
    assert "wandb sync" not in shown(study, 80, tmp_path)


def test_a_study_without_a_finished_trial_says_so_and_shows_the_base(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    base = BaseScore("key", 2.5, {"new": {"exact_match": Score(0.5, None, 10)}}, 1.0, {})
    failed = make_record(0, {"adapter.rank": 4}, 0, None)
    text = shown(StoredStudy(make_facts(), [failed], None, [base]), 80)
    assert text.lstrip().startswith("rank_sweep: No trial finished")
    assert "study.retry=failed" in text
