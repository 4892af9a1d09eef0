"""A cohort's time and memory are never told as a trial's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeplab.records.record import Phase, Solo, StudyFacts, TrialRecord
from sweeplab.report import summarize_settings, write_report
from sweeplab.report.charts.chart import Chart
from sweeplab.report.charts.scatter import build_metric_charts
from sweeplab.report.evidence.formatting import DASH, format_step_duration
from sweeplab.report.evidence.settings import group_by_setting, read_numbers
from sweeplab.report.findings.glossary import explain_terms
from sweeplab.report.findings.settings_table import build_settings_table
from sweeplab.report.findings.table import Table
from sweeplab.report.findings.trials_table import build_phases_table, build_trials_table, title_phases

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]

MIB = 2**20


@pytest.fixture
def together(make_record: RecordFactory) -> list[TrialRecord]:
    """Two trials of rank 4 and one of rank 8 in one cohort of 50 s, and one of rank 16 with the base for itself."""
    phases = {"load": Phase(1.0, 200 * MIB), "train": Phase(50.0, 900 * MIB), "evaluate": Phase(4.0, 900 * MIB)}
    steps = [(4, 0, 0.020), (4, 1, 0.030), (8, 0, 2.5)]
    shared = [
        make_record(n, {"adapter.rank": rank}, seed, cohort=[0, 1, 2], phases=phases, solo=solo(seconds, 300 + rank))
        for n, (rank, seed, seconds) in enumerate(steps)
    ]
    return [*shared, make_record(3, {"adapter.rank": 16}, 0, cohort=[3])]


def solo(seconds: float, mebibytes: int) -> Solo:
    return Solo(seconds, 3, 512, peak_resident_bytes=mebibytes * MIB, peak_allocated_bytes=None)


def titles(table: Table) -> list[tuple[str, str]]:
    return [(column.title, column.unit) for column in table.columns]


def charts_of(facts: StudyFacts, records: list[TrialRecord]) -> dict[str, Chart]:
    return {chart.ident: chart for chart in build_metric_charts(facts, group_by_setting(facts, records))}


def test_settings_show_what_a_trial_takes_alone(make_facts: FactsFactory, together: list[TrialRecord]) -> None:
    table = summarize_settings(make_facts(), together)
    assert titles(table)[-3:-1] == [("peak memory of the process", ""), ("time per step", "longest batch")]
    assert [[cell.text for cell in row[-3:-1]] for row in table.rows] == [
        ["304 MiB", "25 ms"],
        ["308 MiB", "2.5 s"],
        ["512 MiB", "250 ms"],  # of its training: 10 s of 40 steps
    ]
    assert [row[-2].note for row in table.rows] == ["± 7.07 ms", "", "over its whole training"]


def test_what_tensors_held_stands_before_the_resident_set(
    make_facts: FactsFactory, together: list[TrialRecord]
) -> None:
    for record in together[:3]:
        record.solo = Solo(0.1, 3, 512, 300 * MIB, 40 * MIB)
    table = summarize_settings(make_facts(), together)
    shown = {column.title: cell.text for column, cell in zip(table.columns, table.rows[0], strict=True)}
    assert [shown["peak memory"], shown["peak memory of the process"]] == ["40 MiB", "300 MiB"]
    assert [column.title for column in table.columns if column.is_minor] == ["peak memory of the process"]


def test_where_all_ran_alone_their_training_is_their_own(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    """A probe that was made does not hide what was measured of the whole training."""
    records = [make_record(n, {"adapter.rank": n}, cohort=[n], solo=solo(0.5, 300)) for n in (4, 8)]
    facts = make_facts()
    assert titles(build_settings_table(facts, group_by_setting(facts, records)))[3:5] == [
        ("peak memory of the process", "in training"),
        ("training time", ""),
    ]
    assert {"train-time", "peak-memory"} <= set(charts_of(facts, records))
    assert title_phases(records) == "Time spent, failed trials included"
    assert "trained among" not in [title for title, _ in titles(build_trials_table(facts, records))]
    assert "trained among" not in dict(explain_terms(facts, records))


def test_a_cohorts_numbers_are_none_of_a_trials(together: list[TrialRecord]) -> None:
    shared, alone = read_numbers(together[0]), read_numbers(together[3])
    assert not [name for name in shared if name.startswith("phases.")]
    assert shared["solo.step_seconds"] == 0.020
    assert alone["phases.train.seconds"] == 10.0


def test_charts_draw_what_a_trial_takes_alone(make_facts: FactsFactory, together: list[TrialRecord]) -> None:
    found = charts_of(make_facts(), together)
    assert "train-time" not in found
    (line,) = found["step-time"].lines
    assert [(dot.x, dot.y) for dot in line.dots] == [(4.0, 0.020), (4.0, 0.030), (8.0, 2.5), (16.0, 0.25)]
    (line,) = found["peak-memory"].lines
    assert [dot.y for dot in line.dots] == [304.0, 304.0, 308.0, 512.0]
    assert found["peak-memory"].title == "Peak memory of the process"
    for ident in ("step-time", "peak-memory"):
        assert "theirs is over its whole training, if known." in found[ident].note
        assert "whole training" not in charts_of(make_facts(), together[:3])[ident].note


def test_trials_say_among_how_many_they_trained(make_facts: FactsFactory, together: list[TrialRecord]) -> None:
    together[3].cohort = []  # it failed before it trained
    table = build_trials_table(make_facts(), together)
    assert titles(table)[-3:-1] == [("trained among", "trials, with itself"), ("time in training", "")]
    assert [[cell.text for cell in row[-3:-1]] for row in table.rows] == [["3", "50.0 s"]] * 3 + [[DASH, "10.0 s"]]


def test_a_cohorts_seconds_are_not_summed_over_its_trials(together: list[TrialRecord]) -> None:
    table = build_phases_table(together)
    assert [title for title, _ in titles(table)] == ["phase", "trials", "shortest", "median", "longest"]
    assert [cell.text for cell in table.rows[1]] == ["train", "4", "10.0 s", "50.0 s", "50.0 s"]
    assert "does not add up" in title_phases(together)
    assert not any("2 min" in cell.text for row in table.rows for cell in row)  # 3 times 50 s


def test_the_pages_explain_the_columns(make_facts: FactsFactory, together: list[TrialRecord], tmp_path: Path) -> None:
    said = dict(explain_terms(make_facts(), together))
    assert "must not be added over trials" in said["trained among"]
    assert "not probed" in said["time per step"]
    assert said["peak memory of the process"].endswith("without other trials.")
    page = write_report(make_facts(), together, tmp_path)
    for text in (page.read_text(), page.with_suffix(".md").read_text()):
        for part in ("does not add up", "time per step", "trained among", "peak memory of the process"):
            assert part in text
        assert "Time spent" not in text


def test_steps_have_three_digits() -> None:
    assert [format_step_duration(seconds) for seconds in (0.0251, 0.9994, 0.9996, 2.041, 59.0, 75.0)] == [
        "25.1 ms", "999 ms", "1 s", "2.04 s", "59 s", "1 min 15 s",
    ]  # fmt: skip


def test_a_step_has_its_spread_over_steps_and_its_processor_time(
    make_facts: FactsFactory, together: list[TrialRecord]
) -> None:
    facts = make_facts()
    assert "processor" not in dict(explain_terms(facts, together))["time per step"]
    together[2].solo = Solo(2.5, 3, 512, None, None, None, 2.75, 3.0, 0.5)
    table = summarize_settings(facts, together)
    assert table.rows[1][-2].aside == "median 2.75 s, slowest 3 s, processor 500 ms"
    assert "processor time" in dict(explain_terms(facts, together))["time per step"]
