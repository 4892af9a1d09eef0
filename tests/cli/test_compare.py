"""Studies side by side: refused where they differ in what has to be alike, and one table and one chart else."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sweeplab.cli.compare import compare_studies, report_comparison
from sweeplab.config.study import StudyConfig
from sweeplab.records.items import ItemTable
from sweeplab.records.record import Score, StudyFacts, TrialRecord
from sweeplab.records.store import write_facts, write_record
from sweeplab.report import rebuild_report, write_report
from sweeplab.report.evidence.stored import read_stored_study
from sweeplab.runtime.errors import ConfigError

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]
StudyFactory = Callable[..., None]

METRIC = "scores.new.exact_match"
RANKS = (4, 8)
SEEDS = (0, 1)


def config(rank: int, **others: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model": {"name": "tiny"},
        "quantization": {"scheme": "nf4"},
        "adapter": {"rank": rank, "dora": False},
        "data": {"name": "facts"},
        "training": {"max_length": 128, "micro_batch_size": 8, "accumulation": 2, "epochs": 3},
        "evaluation": {"tasks": ["new"]},
    }
    for key, value in others.items():
        group, name = key.split("__")
        values[group] = values[group] | {name: value}
    return values


@pytest.fixture
def report(make_facts: FactsFactory, make_record: RecordFactory, tmp_path: Path) -> StudyFactory:
    """Writes a report of ranks 4 and 8 with two seeds; `shift` is added to the scores."""

    def make(name: str, shift: float, seeds: tuple[int, ...] = SEEDS, objective: str = METRIC, **others: Any) -> None:
        rows = [(rank, seed) for rank in RANKS for seed in seeds]
        records = []
        for n, (rank, seed) in enumerate(rows):
            scores = {"new": {"exact_match": Score(0.25 + shift + rank / 64 + seed / 50, 0.05, 4)}}
            made = make_record(n, {"adapter.rank": rank}, seed, scores=scores, config=config(rank, **others))
            made.cohort = [0, 1]
            records.append(made)
        items = {METRIC: ItemTable([0, 1, 2, 3], {n: [float((n + k) % 2) for k in range(4)] for n in range(len(rows))})}
        facts = make_facts(name=name, objectives={objective: "maximize"}, seeds=list(seeds))
        write_report(facts, records, tmp_path / name, items)

    return make


def compared(tmp_path: Path, uncontrolled: bool = False) -> Path:
    return compare_studies(["a", "b"], tmp_path / "runs", tmp_path, uncontrolled)


def test_studies_that_differ_in_the_adapter_stand_side_by_side(report: StudyFactory, tmp_path: Path) -> None:
    report("a", 0.0)
    report("b", 0.25, adapter__dora=True)
    path = compared(tmp_path)
    assert path == tmp_path / "a-and-b" / "report.html"
    facts, records, items, _ = read_stored_study(path.parent)
    assert [record.number for record in records] == [0, 1, 2, 3, 100, 101, 102, 103]
    assert [record.params["study"] for record in records] == ["a"] * 4 + ["b"] * 4
    assert records[5].cohort == [100, 101]
    assert items is not None
    assert items[METRIC].values[103] == items[METRIC].values[3]
    assert facts.seeds == [0, 1]
    twin = path.with_name("report.md").read_text()
    assert "study=b, rank=8 has the highest exact match on new, 0.635" in twin
    assert "| adapter.dora | false | true | no |" in twin
    page = path.read_text()
    assert "study=a" in page
    assert page.count("<polyline") >= 2
    means = np.array([[row.scores["new"]["exact_match"].value for row in records]]).reshape(2, 2, 2).mean(axis=2)
    for value in means.ravel():
        assert f"{value:.3f} ± 0.014" in twin


def test_the_terminal_shows_the_answer_the_settings_and_where_the_report_is(
    report: StudyFactory, compose_study: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    report("a", 0.0)
    report("b", 0.25, adapter__dora=True)
    folders = (f"study.runs_dir={tmp_path}/runs", f"study.reports_dir={tmp_path}")
    config = compose_study("action=compare", "studies=[a,b]", *folders)
    out = StringIO()
    folder = report_comparison(config, Console(file=out, width=100))
    text = out.getvalue()
    assert text.startswith("\na and b: ")
    assert "study=b, rank=8 has the highest exact match on new, 0.635" in " ".join(text.split())
    rows = [line.split()[:2] for line in text.splitlines()]
    assert [row for row in rows if row[:1] in (["a"], ["b"]) and row[1] in "48"] == [
        ["b", "8"],
        ["b", "4"],
        ["a", "8"],
        ["a", "4"],
    ]
    assert text.endswith(f"report   {folder / 'report.html'}\n")
    assert "action=" not in text  # what to type next would be a command of the comparison


def test_a_comparison_is_rebuilt_byte_by_byte(report: StudyFactory, tmp_path: Path) -> None:
    report("a", 0.0)
    report("b", 0.25, quantization__scheme="hqq3")
    first = compared(tmp_path).parent
    rebuild_report(first, tmp_path / "again")
    for path in first.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("others", "said"),
    [
        # slow: other keys of the same list, beside one that is computed from several
        pytest.param({"training__max_length": 256}, "training.max_length: 128 against 256", marks=pytest.mark.slow),
        ({"training__micro_batch_size": 4}, "examples per optimizer step: 16 against 8"),
        pytest.param({"data__name": "digits"}, "data.name: facts against digits", marks=pytest.mark.slow),
        pytest.param({"model__name": "large"}, "model.name: tiny against large", marks=pytest.mark.slow),
        ({"seeds": (0, 2)}, "the order of the data: 0, 1 against 0, 2"),
    ],
)
def test_uncontrolled_pairs_are_refused_by_name(
    report: StudyFactory, tmp_path: Path, others: dict[str, Any], said: str
) -> None:
    report("a", 0.0)
    report("b", 0.25, **others)
    with pytest.raises(ConfigError, match="differ in what has to be alike") as refused:
        compared(tmp_path)
    assert said in str(refused.value)
    assert "compare.uncontrolled=true" in str(refused.value)
    assert not (tmp_path / "a-and-b").exists()
    twin = compared(tmp_path, uncontrolled=True).with_name("report.md").read_text()
    assert "What differs between the studies" in twin
    assert "| yes |" in twin


def test_a_key_that_an_earlier_record_lacks_counts_as_empty(report: StudyFactory, tmp_path: Path) -> None:
    """A sample is another thing than the file's head, which records of before there were samples are of."""
    report("a", 0.0)
    report("b", 0.25, evaluation__limit_seed=None, evaluation__clusters={})
    assert compared(tmp_path).exists()
    report("b", 0.25, evaluation__limit_seed=0)
    with pytest.raises(ConfigError, match=r"evaluation.limit_seed: – against 0"):
        compared(tmp_path)


def test_a_batch_may_be_cut_in_other_pieces(report: StudyFactory, tmp_path: Path) -> None:
    report("a", 0.0)
    report("b", 0.25, training__micro_batch_size=4, training__accumulation=4)
    twin = compared(tmp_path).with_name("report.md").read_text()
    assert "What differs between the studies" not in twin


def test_runs_are_read_before_reports(
    report: StudyFactory, make_facts: FactsFactory, make_record: RecordFactory, tmp_path: Path
) -> None:
    report("a", 0.0)
    report("b", 0.25)
    runs = tmp_path / "runs" / "b"
    write_facts(runs, make_facts(name="b", objectives={METRIC: "maximize"}, seeds=[0, 1]))
    for seed in SEEDS:
        scores = {"new": {"exact_match": Score(0.125, 0.05, 4)}}
        write_record(runs, make_record(seed, {"adapter.rank": 4}, seed, scores=scores, config=config(4)))
    path = compared(tmp_path)
    stored = json.loads(path.with_name("records.json").read_text())
    assert [one["number"] for one in stored["records"]] == [0, 1, 2, 3, 100, 101]


@pytest.mark.parametrize("names", [[], ["a"], ["a", "a"], ["a", "c"], ["a", "../b"]])
def test_what_is_no_pair_is_refused(report: StudyFactory, tmp_path: Path, names: list[str]) -> None:
    report("a", 0.0)
    report("b", 0.25)
    with pytest.raises(ConfigError, match="studies must name"):
        compare_studies(names, tmp_path / "runs", tmp_path, False)


def test_other_objectives_are_refused(report: StudyFactory, tmp_path: Path) -> None:
    report("a", 0.0)
    report("b", 0.25, objective="heldout_loss_nats_per_token")
    with pytest.raises(ConfigError, match="different first objectives"):
        compared(tmp_path, uncontrolled=True)
