"""A study's constraints: the best, its rivals, the Pareto front and the budgets are of the settings that keep them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report import write_report
from sweeplab.report.evidence.estimates import find_best_setting
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.answer import state_answer

LOSSES = {1: 2.0, 4: 1.5, 64: 1.0}
NUM_PARAMS = {1: 2_048, 4: 8_192, 64: 131_072}


@pytest.fixture
def records(make_record: Callable[..., TrialRecord]) -> list[TrialRecord]:
    """Rank 64 has the lowest loss and the most parameters."""
    made = [
        make_record(3 * seed + index, {"adapter.rank": rank}, seed, loss + seed / 100)
        for seed in (0, 1)
        for index, (rank, loss) in enumerate(LOSSES.items())
    ]
    for record in made:
        record.num_trainable_params = NUM_PARAMS[record.params["adapter.rank"]]
    return made


@pytest.mark.parametrize(
    ("bounds", "best", "beyond"),
    [
        ({}, 64, []),
        ({"num_trainable_params": {"max": 131_072}}, 64, []),
        ({"num_trainable_params": {"max": 131_071}}, 4, [64]),
        ({"num_trainable_params": {"max": 10_000}}, 4, [64]),
        ({"num_trainable_params": {"max": 10_000}, "heldout_loss_nats_per_token": {"min": 1.75}}, 1, [4, 64]),
        ({"num_trainable_params": {"max": 5}}, None, [1, 4, 64]),
    ],
)
def test_the_best_is_of_what_is_allowed(
    make_facts: Callable[..., StudyFacts],
    records: list[TrialRecord],
    tmp_path: Path,
    bounds: dict[str, dict[str, float]],
    best: int | None,
    beyond: list[int],
) -> None:
    facts = make_facts(objectives={"heldout_loss_nats_per_token": "minimize"}, seeds=[0, 1], constraints=bounds)
    settings = group_by_setting(facts, records)
    setting = find_best_setting(facts, settings)
    assert (None if setting is None else setting.params["adapter.rank"]) == best
    answer = " ".join(state_answer(facts, settings).sentences)
    assert ("not ranked: " in answer) == bool(beyond)
    for rank in beyond:
        assert f"rank={rank}" in answer
    named = f"One setting is allowed, rank={best}:" if len(beyond) == 2 else f"Use rank={best}: its held-out loss"
    assert (named in answer) == (best is not None)
    write_report(facts, records, tmp_path, None, [])
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    tables = page.partition("Pareto front")[2].partition("## Trials")[0]
    assert not any(f"rank={rank} " in tables for rank in beyond)
    assert ("trainable parameters at most" in page) == ("num_trainable_params" in bounds)
