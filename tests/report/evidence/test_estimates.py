"""From records and items to arrays and back: what the statistics are given is what the trials left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeplab import open_study
from sweeplab.records.items import make_loss_row
from sweeplab.records.record import BaseScore, Score, Solo, StudyFacts, TrialRecord
from sweeplab.records.store import (
    StoreError,
    trial_folder,
    write_base_score,
    write_facts,
    write_json_lines,
    write_record,
)
from sweeplab.report import rebuild_report, write_report
from sweeplab.report.evidence.estimates import gather_evidence
from sweeplab.report.evidence.formatting import DASH
from sweeplab.report.evidence.item_values import stack_item_values
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.evidence.stored import read_stored_study
from sweeplab.report.findings.budgets import build_budget_tables, build_forgetting_table, build_pareto_table
from sweeplab.report.findings.comparison import seeds_cell
from sweeplab.report.findings.importance import build_effects_table, build_importance_table, measure_importance
from sweeplab.statistics.intervals import level_with
from sweeplab.statistics.power import _compute_power, count_seeds_needed

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]

LOSS = "heldout_loss_nats_per_token"
METRIC = "scores.new.acc"


def hits(trial: int) -> list[float]:
    return [float(draw < 0.4 + trial / 10) for draw in np.random.default_rng(trial).random(20)]


@pytest.fixture
def study(tmp_path: Path, make_facts: FactsFactory, make_record: RecordFactory) -> Path:
    """A folder of runs with two settings of two seeds, and 20 items each."""
    folder = tmp_path / "runs"
    for trial in range(4):
        score = Score(float(np.mean(hits(trial))), 0.1, 20)
        params = {"adapter.rank": 4 * (1 + trial // 2)}
        write_record(folder, make_record(trial, params, trial % 2, scores={"new": {"acc": score}}))
        rows: list[dict[str, Any]] = [
            {"task": "new", "item": item, "filter": name, "target": "t", "responses": [], "metrics": {"acc": hit}}
            for item, hit in enumerate(hits(trial))
            for name in ("none", "strict")
        ]
        write_json_lines(trial_folder(folder, trial) / "items.jsonl", rows)
    write_facts(folder, make_facts(seeds=[0, 1], objectives={METRIC: "maximize"}, retained_tasks=["old"]))
    return folder


def test_the_arrays_hold_each_trials_items(study: Path) -> None:
    facts, records, items, _ = read_stored_study(study)
    found = gather_evidence(facts, group_by_setting(facts, records), METRIC, items)
    assert found is not None
    assert found.table.items_KSN is not None
    assert np.array_equal(found.table.items_KSN, np.array([hits(trial) for trial in range(4)]).reshape(2, 2, 20))
    assert np.allclose(found.table.items_KSN.mean(axis=2), found.table.values_KS)
    compared = found.compared()
    assert compared is not None
    assert compared.differences[1 - compared.best].covers == "seeds and items"


def test_a_score_that_is_no_mean_of_its_items_is_not_paired_by_them(study: Path) -> None:
    """Such as a perplexity, whose items have log-likelihoods, in files of earlier versions too."""
    facts, records, items, _ = read_stored_study(study)
    for record in records:
        record.scores["new"]["acc"].value = float(np.exp(-np.mean(hits(record.number))))
    found = gather_evidence(facts, group_by_setting(facts, records), METRIC, items)
    assert found is not None
    assert found.table.items_KSN is None


def test_a_loss_of_one_seed_has_one_interval_over_its_examples_wherever_it_stands(
    tmp_path: Path, make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    rng = np.random.default_rng(0)
    counts_N = rng.integers(1, 30, 200)
    for trial in (1, 0):
        sums_N = np.float32(counts_N * rng.gamma(4.0, 0.5 + 0.1 * trial, 200)).astype(float)
        loss = float(sums_N.sum() / counts_N.sum())
        record = make_record(trial, {"adapter.rank": 4 * (1 + trial)}, 0)
        record.heldout_loss_nats_per_token = loss
        write_record(tmp_path, record)
        row = make_loss_row(sums_N.tolist(), counts_N.tolist())
        write_json_lines(trial_folder(tmp_path, trial) / "items.jsonl", [row])
    error = np.sqrt(((sums_N - loss * counts_N) ** 2).sum() / 199 * 200) / counts_N.sum()
    reach = stats.t.ppf(0.975, 199) * error
    write_facts(tmp_path, make_facts(seeds=[0], objectives={LOSS: "minimize"}))
    twin = rebuild_report(tmp_path, tmp_path / "report").with_name("report.md").read_text()
    (cell,) = [line for line in twin.splitlines() if line.startswith("| 4 |")]
    assert f"\\[{loss - reach:.3f}, {loss + reach:.3f}\\]" in cell
    found = open_study(str(tmp_path)).settings()
    assert found["low"][0] == pytest.approx(loss - reach)
    assert list(found["covers"]) == ["items", "items"]


def test_a_run_without_results_has_its_value_on_every_item(study: Path) -> None:
    """The worst value where it failed; none where it does not exist yet."""
    facts, records, items, _ = read_stored_study(study)
    assert items is not None
    settings = group_by_setting(facts, [record for record in records if record.number not in (1, 3)])
    values_KS = np.array([[np.mean(hits(0)), 0.05], [np.mean(hits(2)), np.nan]])
    values_KSN = stack_item_values(settings, [0, 1], items[METRIC], values_KS)
    assert values_KSN is not None
    assert np.array_equal(values_KSN[:, 0], [hits(0), hits(2)])
    assert np.array_equal(values_KSN[:, 1], [[0.05] * 20, [np.nan] * 20], equal_nan=True)


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_questions_on_one_passage_count_once(study: Path, num_seeds: int) -> None:
    """Against Miller's formula for one seed: with two, the means are those of the items as before."""
    facts, records, items, _ = read_stored_study(study)
    assert items is not None
    clusters_N = np.arange(20) // 4
    items[METRIC] = items[METRIC]._replace(clusters=clusters_N.tolist())
    kept = [record for record in records if record.seed < num_seeds]
    facts.seeds = list(range(num_seeds))
    found = gather_evidence(facts, group_by_setting(facts, kept), METRIC, items)
    assert found is not None
    assert found.table.items_KSN is not None
    assert found.table.items_KSN.shape == (2, num_seeds, 5)
    assert np.allclose(found.table.items_KSN.mean(axis=2), found.table.values_KS)
    if num_seeds == 1:
        rest_N = np.array(hits(0)) - np.mean(hits(0))
        squares = sum(rest_N[clusters_N == cluster].sum() ** 2 for cluster in range(5))
        assert found.estimates[0].se == pytest.approx(np.sqrt(squares * 5 / 4) / 20)


def test_seeds_needed_of_the_table_are_the_fewest_with_these_items(study: Path) -> None:
    facts, records, items, _ = read_stored_study(study)
    found = gather_evidence(facts, group_by_setting(facts, records), METRIC, items)
    assert found is not None
    assert found.table.items_KSN is not None
    compared = found.compared()
    assert compared is not None
    assert compared.seed_deviations is not None
    place = 1 - compared.best
    by_item_SN = found.table.items_KSN[place] - found.table.items_KSN[compared.best]
    rest = by_item_SN - by_item_SN.mean(axis=0) - by_item_SN.mean(axis=1, keepdims=True) + by_item_SN.mean()
    of_items = max(0.0, 2 * by_item_SN.mean(axis=0).var(ddof=1) - (rest**2).sum() / 19) / 40
    assert of_items > 0
    value, deviation = compared.differences[place].value, compared.seed_deviations[place]
    shares = (20 * found.table.values_KS.sum(axis=1) + 2) / (2 * 20 + 4)
    floor = (np.minimum(20 * shares * (1 - shares), 4) / 20**2).mean()  # never below what 20 items allow
    assert deviation == pytest.approx(max(by_item_SN.mean(axis=1).std(ddof=1), (2 * floor) ** 0.5))
    powers = [_compute_power(value, deviation, num, level_with(num), of_items, 19) for num in range(2, 1001)]
    told = next((str(place + 2) for place, power in enumerate(powers) if power >= 0.8), DASH)
    assert seeds_cell(compared, place).text == told != str(count_seeds_needed(value, deviation))


def test_a_trial_without_items_leaves_the_seeds(study: Path) -> None:
    (trial_folder(study, 2) / "items.jsonl").unlink()
    facts, records, items, _ = read_stored_study(study)
    found = gather_evidence(facts, group_by_setting(facts, records), METRIC, items)
    assert found is not None
    assert found.table.items_KSN is None


def test_a_report_is_rebuilt_byte_by_byte_from_runs_and_from_itself(study: Path, tmp_path: Path) -> None:
    base = BaseScore("0" * 32, 2.5, {"new": {"exact_match": Score(0.05, 0.05, 20)}}, 1.0, {})
    write_base_score(study, base, [])
    first = rebuild_report(study, tmp_path / "first").parent
    facts, records, items, bases = read_stored_study(study)
    assert bases == [base]
    write_report(facts, records, tmp_path / "second", items, bases)
    rebuild_report(first, tmp_path / "third")
    names = sorted(path.name for path in first.iterdir())
    assert "items.json" in names
    for name in names:
        assert len({(tmp_path / one / name).read_bytes() for one in ("first", "second", "third")}) == 1
    assert "another seed and other items" in (first / "report.md").read_text()


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"records.json cannot be read"):
        rebuild_report(tmp_path)


@pytest.fixture
def grid(make_record: RecordFactory) -> list[TrialRecord]:
    """A full grid whose loss is ten times the optimizer's place, the rank's place, and a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, 24)
    points = [(name, rank, seed) for name in ("adamw", "sgd") for rank in (4, 8, 16, 32) for seed in (0, 1, 2)]
    return [
        make_record(
            n,
            {"optimizer": name, "adapter.rank": rank},
            seed,
            10.0 * (name == "sgd") + np.log2(rank) + noise[n],
            solo=Solo(0.1, 3, 512, 500 * 2**20 + n, 40 * 2**20),
            scores={"old": {"acc": Score(0.5, 0.05, 100)}},
        )
        for n, (name, rank, seed) in enumerate(points)
    ]


def test_importances_rank_what_moves_the_loss(make_facts: FactsFactory, grid: list[TrialRecord]) -> None:
    space = {"optimizer": {"choices": ["adamw", "sgd"]}, "adapter.rank": {"choices": [4, 8, 16, 32]}}
    facts = make_facts(space=space, seeds=[0, 1, 2])
    table = build_importance_table(measure_importance(facts, grid))
    assert table is not None
    assert [row[0].text for row in table.rows] == ["optimizer", "rank"]
    assert float(table.rows[0][1].text) > 0.9
    assert build_importance_table(measure_importance(facts, grid[::-1])) == table
    assert build_importance_table(measure_importance(facts, grid[:7])) is None
    found = gather_evidence(facts, group_by_setting(facts, grid), LOSS, None)
    assert found is not None
    effects = build_effects_table(facts, found)
    assert effects is not None
    assert [row[0].text for row in effects.rows] == ["optimizer", "rank", "optimizer × rank", "seeds and what is left"]
    assert [row[3].text for row in effects.rows[:2]] == ["< 0.001", "< 0.001"]
    missing = gather_evidence(facts, group_by_setting(facts, grid[3:]), LOSS, None)
    assert missing is not None
    assert build_effects_table(facts, missing) is None


def test_fronts_budgets_and_forgetting(make_facts: FactsFactory, grid: list[TrialRecord]) -> None:
    facts = make_facts(space={}, seeds=[0, 1, 2], retained_tasks=["old"])
    settings = group_by_setting(facts, grid)
    found = gather_evidence(facts, settings, LOSS, None)
    assert found is not None
    front = build_pareto_table(facts, found)
    assert front is not None
    assert [row[0].text for row in front.rows] == ["optimizer=adamw, rank=4"]  # costs are equal: the best loss alone
    assert [title for title, _ in build_budget_tables(found)] == [
        "Best within a budget of peak memory",
        "Best within a budget of training time",
    ]
    for record in grid:
        assert record.solo is not None
        record.solo.peak_allocated_bytes = (
            None  # as in records of before it was counted: the resident set ranks nothing
        )
    found = gather_evidence(facts, group_by_setting(facts, grid), LOSS, None)
    assert found is not None
    assert [title for title, _ in build_budget_tables(found)] == ["Best within a budget of training time"]
    kept = build_forgetting_table(facts, settings, None)
    assert kept is not None
    assert [column.unit for column in kept.columns] == ["", "learned", "kept"]
    assert {row[2].text for row in kept.rows} == {"0.500"}
    assert build_forgetting_table(make_facts(), settings, None) is None


def test_the_other_objectives_are_part_of_the_front(make_facts: FactsFactory, grid: list[TrialRecord]) -> None:
    """Costs are equal, so that the losses and what rises with rank decide: worse by loss, better by score."""
    for record in grid:
        record.scores = {"old": {"acc": Score(record.params["adapter.rank"] / 100, 0.05, 100)}}
        record.adapter_bytes = 1000
    objectives = {LOSS: "minimize", "scores.old.acc": "maximize", "adapter_bytes": "minimize"}
    facts = make_facts(space={}, seeds=[0, 1, 2], objectives=objectives | {"phases.train.seconds": "minimize"})
    found = gather_evidence(facts, group_by_setting(facts, grid), LOSS, None)
    assert found is not None
    front = build_pareto_table(facts, found)
    assert front is not None
    assert [row[0].text for row in front.rows] == [f"optimizer=adamw, rank={rank}" for rank in (4, 8, 16, 32)]
    assert [column.title for column in front.columns] == [
        "setting",
        "held-out loss",
        "acc on old",
        "adapter size",
        "peak memory",
        "training time",  # an objective, and a cost that is shown anyway
    ]
    assert [row[2].text for row in front.rows] == ["0.040", "0.080", "0.160", "0.320"]
    falling = make_facts(space={}, seeds=[0, 1, 2], objectives={LOSS: "minimize", "scores.old.acc": "minimize"})
    one = build_pareto_table(falling, found)
    assert one is not None
    assert [row[0].text for row in one.rows] == ["optimizer=adamw, rank=4"]
