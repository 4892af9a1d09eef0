"""What training gained over the base, against arithmetic by hand."""

from collections.abc import Callable

import pytest

from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord
from sweeplab.report.evidence.estimates import gather_evidence
from sweeplab.report.evidence.settings import LOSS, group_by_setting
from sweeplab.report.findings.answer import state_answer
from sweeplab.report.findings.gain import describe_difference, describe_gain_over_base
from sweeplab.statistics.intervals import Estimate

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


def base(loss: float) -> BaseScore:
    return BaseScore("0" * 32, loss, {}, 1.0, {})


@pytest.mark.parametrize(
    ("loss", "begins"),
    [
        (0.5, "No gain over the base, whose held-out loss is 0.500 nats/target without training. "),
        (1.06, "No gain over the base can be told: its held-out loss is 1.060 nats/target, within ["),
        (3.0, "Use rank=4: "),
        (None, "Use rank=4: "),
    ],
)
def test_no_gain_over_the_base_is_said_first(
    make_facts: FactsFactory, make_record: RecordFactory, loss: float | None, begins: str
) -> None:
    rows = [(4, 0, 1.0), (4, 1, 1.05), (8, 0, 9.0), (8, 1, 9.4)]
    records = [make_record(n, {"adapter.rank": rank}, seed, value) for n, (rank, seed, value) in enumerate(rows)]
    facts = make_facts(seeds=[0, 1])
    bases = [] if loss is None else [base(loss)]
    assert state_answer(facts, group_by_setting(facts, records), None, bases).first.startswith(begins)


def test_the_gain_has_the_interval_of_the_mean_from_the_base_on(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = [make_record(n, {"adapter.rank": 4}, n, 1.0 + n / 8) for n in range(3)]
    facts = make_facts(seeds=[0, 1, 2])
    settings = group_by_setting(facts, records)
    found = gather_evidence(facts, settings, LOSS, None)
    assert found is not None
    mean = found.estimates[0]
    assert mean.low is not None
    assert mean.high is not None
    said = describe_gain_over_base(found, settings[0], [base(4.0)])
    ends = f"[{4.0 - mean.high:.3f}, {4.0 - mean.low:.3f}]"
    assert said == f"2.875 nats/target {ends} better than 4.000 nats/target without training"
    assert describe_gain_over_base(found, settings[0], []) is None


@pytest.mark.parametrize(
    ("value", "low", "high", "sign", "said"),
    [
        (-0.25, -0.5, 0.125, 1, "0.250 [-0.125, 0.500] worse"),
        (-0.25, -0.5, 0.125, -1, "0.250 [-0.125, 0.500] better"),
        (0.25, 0.125, 0.5, 1, "0.250 [0.125, 0.500] better"),
        (0.25, None, None, -1, "0.250 worse"),
    ],
)
def test_a_difference_and_its_interval_go_the_way_that_the_word_says(
    value: float, low: float | None, high: float | None, sign: int, said: str
) -> None:
    difference = Estimate(value, None, None, low, high, "seeds")
    assert describe_difference("scores.t.acc", difference, sign) == said


def test_equal_means_are_neither_better_nor_worse(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    assert describe_difference(LOSS, Estimate(0.0, 0.1, 3, -0.2, 0.2, "seeds"), -1) == (
        "0.000 nats/target [-0.200, 0.200] away"
    )
    records = [make_record(n, {"adapter.rank": 4}, n, 1.0) for n in range(2)]
    facts = make_facts(seeds=[0, 1])
    (setting,) = group_by_setting(facts, records)
    evidence = gather_evidence(facts, [setting], LOSS, None)
    assert evidence is not None
    said = describe_gain_over_base(evidence, setting, [base(1.0)])
    assert said == "0.000 nats/target away from 1.000 nats/target without training"
