"""What a race says, on records whose means are known."""

from dataclasses import replace

import numpy as np
import pytest

from sweeplab.records.record import RaceGoal, Status, StudyFacts, TrialRecord
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.answer import state_answer
from sweeplab.report.findings.leader import find_standing
from sweeplab.report.findings.race import list_fresh_values, summarize_race

LOSS = "heldout_loss_nats_per_token"
MEANS = {4: 2.0, 8: 1.0, 16: 1.03, 32: 3.0}
SEEDS = list(range(6))
FACTS = StudyFacts(
    name="race",
    question=None,
    command="",
    objectives={LOSS: "minimize"},
    seeds=SEEDS,
    space={"adapter.rank": {"choices": [*MEANS]}},
    num_planned=None,
    config={},
    race=RaceGoal(0.1, 0.95, [6, 7]),
)


def runs(num_seeds: dict[int, int], spread: float = 0.01) -> list[TrialRecord]:
    random = np.random.default_rng(0)
    asked = [(rank, seed) for rank, count in num_seeds.items() for seed in range(count)]
    return [
        TrialRecord(
            number, Status.FINISHED, seed, {"adapter.rank": rank}, {},
            heldout_loss_nats_per_token=MEANS[rank] * float(np.exp(spread * random.normal())),
        )
        for number, (rank, seed) in enumerate(asked)
    ]  # fmt: skip


def state(records: list[TrialRecord], facts: StudyFacts = FACTS) -> list[str]:
    return state_answer(facts, group_by_setting(facts, records)).sentences


def test_a_decided_race_names_its_setting_and_what_may_be_lost() -> None:
    records = runs({4: 2, 8: 6, 16: 6, 32: 1}, spread=0.02)
    first = state(records)[0]
    assert first.startswith("Use rank=8: held-out loss 1.0")
    assert "No other setting is better by more than 0.0" in first
    said = summarize_race(FACTS, group_by_setting(FACTS, records))
    assert said is not None
    assert (said.leader, said.is_decided, said.within) == ({"adapter.rank": 8}, True, 0.1)
    assert said.bound is not None
    assert 0 < said.bound < 0.1


def test_an_open_race_names_who_may_be_better_and_by_how_much() -> None:
    records = runs({4: 2, 8: 2, 16: 2, 32: 1}, spread=0.2)
    first = state(records)[0]
    assert first.startswith("So far rank=")
    assert "may be better by more than 0.100 nats/target, by" in first
    assert "raise study.budget" in first


def test_one_seed_decides_nothing() -> None:
    assert "leads with one seed" in state(runs(dict.fromkeys(MEANS, 1)))[0]
    assert summarize_race(replace(FACTS, race=None), group_by_setting(FACTS, runs({4: 2, 8: 2}))) is None


def test_fresh_seeds_are_stated_by_themselves() -> None:
    records = runs({4: 2, 8: 6, 16: 6, 32: 1})
    fresh = [
        TrialRecord(90 + seed, Status.FINISHED, seed, {"adapter.rank": 8}, {}, heldout_loss_nats_per_token=value)
        for seed, value in ((6, 1.25), (7, 1.375))
    ]
    settings = group_by_setting(FACTS, [*records, *fresh])
    leader = next(one for one in settings if one.params == {"adapter.rank": 8})
    assert list_fresh_values(FACTS, leader) == [one.heldout_loss_nats_per_token for one in fresh]
    assert list_fresh_values(replace(FACTS, race=None), leader) == []
    before, after = state(records), state([*records, *fresh])
    assert before[0] == after[0]
    shown = "1.250 nats/target and 1.375 nats/target"
    assert f"With 2 fresh seeds, which had no part in the choice, it has {shown}." in after


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.PRUNED, "1 other setting stopped early, since the curve lagged behind"),
        (Status.FAILED, "1 setting left the race, since a run failed or broke a constraint."),
    ],
)
def test_who_left_the_race_is_counted_and_never_wins(status: Status, words: str) -> None:
    records = runs({8: 6, 16: 6, 32: 2})
    out = TrialRecord(99, status, 0, {"adapter.rank": 4}, {}, reason="so it ended")
    sentences = state([*records, out])
    assert sentences[0].startswith("Use rank=8")
    assert any(words in sentence for sentence in sentences)
    assert ("trained to its end" in sentences[0]) == (status is Status.PRUNED)


def test_a_race_of_settings_that_are_equal_has_no_winner() -> None:
    """As where no answer is right: one of them was to be used, and no other one was better."""
    records = [replace(one, heldout_loss_nats_per_token=1.0) for one in runs({4: 2, 8: 2, 16: 2})]
    settings = group_by_setting(FACTS, records)
    assert state(records)[0] == "No winner: all 3 settings have the same held-out loss, 1.000 nats/target."
    standing = find_standing(FACTS, settings, race=summarize_race(FACTS, settings))
    assert standing is not None
    assert not standing.is_recommended


def test_a_certainty_below_one_is_not_all_studies() -> None:
    assert FACTS.race is not None
    facts = replace(FACTS, race=replace(FACTS.race, certainty=0.999))
    said = " ".join(state(runs({4: 2, 8: 6, 16: 6, 32: 1}), facts))
    assert "In 99.9% of studies what the race says is so" in said
