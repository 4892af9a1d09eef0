"""Claims: every form is supported, contradicted and left open by records that say so; effects by hand or by SciPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeplab.records.claim import ClaimConfig, fingerprint_claim
from sweeplab.records.items import Items, ItemTable
from sweeplab.records.record import Score, StudyFacts, TrialRecord
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.claims_table import build_claims_table, list_published_values
from sweeplab.report.findings.verdicts import Verdict, judge_claims
from sweeplab.statistics.intervals import level_with

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]
Judge = Callable[..., Verdict]

METRIC = "scores.new.acc"
VALUES = {4: (0.30, 0.32, 0.31), 8: (0.50, 0.53, 0.51), 16: (0.52, 0.50, 0.52)}


def score(value: float) -> Score:
    """Of so many items that a share of them hardly moves in steps."""
    return Score(value, None, 10_000)


@pytest.fixture
def judge(make_facts: FactsFactory, make_record: RecordFactory) -> Judge:
    """The verdict on one claim about `values` by rank."""

    def judged(values: dict[int, tuple[float, ...]], items: Items | None = None, **claim: Any) -> Verdict:
        claim = {"words": "It is so.", "source": "a paper", "metric": METRIC} | claim
        points = [(rank, seed, value) for rank, row in values.items() for seed, value in enumerate(row)]
        records = [
            make_record(
                n,
                {"adapter.rank": rank},
                seed,
                scores={"new": dict.fromkeys(("acc", "bleu"), score(value))},
            )
            for n, (rank, seed, value) in enumerate(points)
        ]
        facts = make_facts(seeds=list(range(len(next(iter(values.values()))))), claims=[claim])
        return judge_claims(facts, group_by_setting(facts, records), items)[0]

    return judged


@pytest.mark.parametrize(
    ("claim", "word"),
    [
        ({"better": {"adapter.rank": 8}, "worse": {"adapter.rank": 4}}, "supported"),
        ({"better": {"adapter.rank": 8}, "worse": {"adapter.rank": 4}, "margin": 0.3}, "contradicted"),
        ({"better": {"adapter.rank": 4}, "worse": {"adapter.rank": 8}}, "contradicted"),
        ({"better": {"adapter.rank": 16}, "worse": {"adapter.rank": 8}}, "inconclusive"),
        ({"same": [{"adapter.rank": 16}, {"adapter.rank": 8}], "margin": 0.1}, "supported"),
        ({"same": [{"adapter.rank": 16}, {"adapter.rank": 8}], "margin": 0.001}, "inconclusive"),
        ({"same": [{"adapter.rank": 4}, {"adapter.rank": 8}], "margin": 0.1}, "contradicted"),
        ({"rises_with": "adapter.rank"}, "supported"),
        ({"rises_with": "adapter.rank", "margin": 0.2}, "contradicted"),
        ({"falls_with": "adapter.rank"}, "contradicted"),
        ({"ratio": [{"adapter.rank": 8}, {"adapter.rank": 4}], "between": [1.4, 2.0]}, "supported"),
        ({"ratio": [{"adapter.rank": 8}, {"adapter.rank": 4}], "between": [2.0, None]}, "contradicted"),
        ({"ratio": [{"adapter.rank": 8}, {"adapter.rank": 4}], "between": [None, 1.65]}, "inconclusive"),
        ({"value": {"adapter.rank": 8}, "between": [0.4, 0.6]}, "supported"),
        ({"value": {"adapter.rank": 8}, "between": [0.6, None]}, "contradicted"),
        ({"value": {"adapter.rank": 8}, "between": [None, 0.513]}, "inconclusive"),
        ({"every": {}, "between": [0.2, 0.6]}, "supported"),
        ({"every": {}, "between": [0.4, 0.6]}, "contradicted"),
        ({"every": {}, "between": [0.312, None]}, "inconclusive"),
    ],
)
def test_every_form_has_its_verdicts(judge: Judge, claim: dict[str, Any], word: str) -> None:
    found = judge(VALUES, **claim)
    assert found.word == word


def test_the_effect_is_the_paired_difference_of_two_settings(judge: Judge) -> None:
    values = {rank: VALUES[rank] for rank in (4, 8)}
    found = judge(values, better={"adapter.rank": 8}, worse={"adapter.rank": 4}).estimate
    assert found is not None
    low, high = stats.ttest_rel(values[8], values[4]).confidence_interval(level_with(3))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values[8]) - np.mean(values[4]), low, high))


def test_equivalence_is_two_one_sided_tests(judge: Judge) -> None:
    values = {rank: VALUES[rank] for rank in (8, 16)}
    for margin in (0.02, 0.035, 0.05, 0.1, 0.2):
        tails = [
            stats.ttest_1samp(np.subtract(values[8], values[16]), bound, alternative=side).pvalue
            for bound, side in ((-margin, "greater"), (margin, "less"))
        ]
        found = judge(values, same=[{"adapter.rank": 8}, {"adapter.rank": 16}], margin=margin)
        assert (found.word == "supported") == (max(tails) < 1 - level_with(3))


def test_less_is_better_where_the_metric_says_so(judge: Judge) -> None:
    claim = {"metric": "heldout_loss_nats_per_token", "better": {"adapter.rank": 4}, "worse": {"adapter.rank": 8}}
    assert judge(VALUES, **claim).rule == "below 0"


def test_a_trend_with_a_step_back_is_contradicted(judge: Judge) -> None:
    found = judge({4: (0.1, 0.11), 8: (0.9, 0.91), 16: (0.7, 0.71)}, rises_with="adapter.rank")
    assert (found.word, found.reason) == ("contradicted", "step 2 of 2 along adapter.rank goes the other way")
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("claim", "shown"),
    [
        ({"better": {"adapter.rank": 8}, "worse": {"adapter.rank": 4}}, 0.25),
        ({"same": [{"adapter.rank": 8}, {"adapter.rank": 4}], "margin": 0.5}, 0.25),
        ({"rises_with": "adapter.rank"}, 0.0),
        ({"ratio": [{"adapter.rank": 8}, {"adapter.rank": 4}], "between": [1.0, 3.0]}, 1.5),
        ({"value": {"adapter.rank": 8}, "between": [0.4, 0.9]}, 0.75),
        ({"every": {}, "between": [0.1, 0.9]}, 0.5),
    ],
)
def test_what_is_the_same_with_all_seeds_decides_nothing(judge: Judge, claim: dict[str, Any], shown: float) -> None:
    values = {4: (0.5, 0.5), 8: (0.75, 0.75), 16: (0.5, 0.5)}
    found = judge(values, **claim, metric="scores.new.bleu")
    assert found.word == "inconclusive"
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(shown)
    assert found.estimate.low is None
    assert found.reason == "no spread at all: the same with all seeds"
    sizes = {"metric": "adapter_bytes", "value": {"adapter.rank": 8}, "between": [4000, 5000]}
    assert judge(values, **sizes).word == "supported"  # a size is no matter of chance


def test_a_share_ends_at_1_and_a_claim_that_ends_there_has_no_end(judge: Judge) -> None:
    values = {4: (0.97, 1.0, 0.99), 8: (0.96, 1.0, 0.98), 16: (0.2, 0.25, 0.22)}
    found = judge(values, value={"adapter.rank": 4}, between=[0.7, 1.0])
    assert (found.word, found.estimate and found.estimate.high) == ("supported", 1.0)
    every = judge(values, every={}, between=[0.0, 1.0])
    assert every.word == "supported"
    apart = judge({4: (1.0, 0.0), 8: (0.0, 1.0)}, better={"adapter.rank": 4}, worse={"adapter.rank": 8}).estimate
    assert apart is not None
    assert (apart.low, apart.high) == (-1.0, 1.0)


def test_a_loss_ends_at_0(judge: Judge) -> None:
    values = {4: (0.1, 2.0), 8: (0.2, 0.3)}
    loss = "heldout_loss_nats_per_token"
    assert judge(values, metric=loss, value={"adapter.rank": 8}, between=[0.0, 1.0]).estimate is not None


def test_every_shows_the_setting_that_decides(judge: Judge) -> None:
    found = judge(VALUES, every={}, between=[0.2, None])
    assert found.reason.endswith("of 3 settings: rank=4")
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.31)


def test_one_seed_without_errors_and_missing_settings_decide_nothing(judge: Judge) -> None:
    one = judge({4: (0.3,), 8: (0.9,)}, better={"adapter.rank": 8}, worse={"adapter.rank": 4})
    assert (one.word, one.reason) == ("inconclusive", "not decided: one seed")
    none = judge(VALUES, better={"adapter.rank": 64}, worse={"adapter.rank": 4})
    assert (none.word, none.estimate) == ("inconclusive", None)


def test_one_seed_with_items_has_an_interval_and_no_word(judge: Judge) -> None:
    items = {METRIC: ItemTable(list(range(10)), {0: [0.0] * 7 + [1.0] * 3, 1: [0.0] + [1.0] * 9})}
    verdict = judge({4: (0.3,), 8: (0.9,)}, items, better={"adapter.rank": 8}, worse={"adapter.rank": 4})
    assert (verdict.word, verdict.reason) == ("inconclusive", "not decided: one seed; the interval is over items")
    assert verdict.estimate is not None
    assert verdict.estimate.low is not None
    assert verdict.estimate.low > 0


def test_claims_of_a_study_are_corrected_and_exploratory_ones_are_not(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    """Holm: of three claims the clearest is judged at a third of the error; a decided one leaves the others more."""
    values = {4: (0.300, 0.320, 0.310), 8: (0.512, 0.497, 0.534), 16: (0.521, 0.560, 0.524)}
    points = [(rank, seed, value) for rank, row in values.items() for seed, value in enumerate(row)]
    records = [
        make_record(n, {"adapter.rank": rank}, seed, scores={"new": {"acc": score(value)}})
        for n, (rank, seed, value) in enumerate(points)
    ]

    def claim(better: int, worse: int, **others: Any) -> dict[str, Any]:
        settings = {"better": {"adapter.rank": better}, "worse": {"adapter.rank": worse}}
        return {"words": "w", "source": "s", "metric": METRIC, **settings, **others}

    def widths(claims: list[dict[str, Any]]) -> list[float]:
        facts = make_facts(seeds=[0, 1, 2], claims=claims)
        estimates = [one.estimate for one in judge_claims(facts, group_by_setting(facts, records), None)]
        return [one.high - one.low for one in estimates if one is not None and one.high and one.low is not None]

    [alone] = widths([claim(16, 8)])
    [first, second, third] = widths([claim(16, 8), claim(8, 4), claim(16, 4)])
    assert second > alone  # decided at a third of the error
    assert second == pytest.approx(third)
    assert first == pytest.approx(alone)  # the only one that is left
    [marked, _] = widths([claim(16, 8, exploratory=True), claim(16, 8, margin=0.001)])
    assert marked == pytest.approx(alone)


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"better": {"adapter.rank": 16}, "worse": {"adapter.rank": 4}}, "rank=16 has no run of seed 1"),
        ({"rises_with": "adapter.rank"}, "rank=16 has no run of seed 1"),
        ({"every": {}, "between": [0.1, None]}, "rank=16 has no run of seed 1"),
        ({"better": {"adapter.rank": 8}, "worse": {"adapter.rank": 4}}, ""),
    ],
)
def test_a_claim_about_a_setting_that_lacks_a_run_is_not_decided(
    make_facts: FactsFactory, make_record: RecordFactory, claim: dict[str, Any], reason: str
) -> None:
    points = [(rank, seed) for rank in (4, 8, 16) for seed in (0, 1, 2) if (rank, seed) != (16, 1)]
    records = [
        make_record(n, {"adapter.rank": rank}, seed, scores={"new": {"acc": Score(rank / 20 + seed / 200, None, 900)}})
        for n, (rank, seed) in enumerate(points)
    ]
    facts = make_facts(seeds=[0, 1, 2], claims=[{"words": "w", "source": "s", "metric": METRIC, **claim}])
    [verdict] = judge_claims(facts, group_by_setting(facts, records), None)
    assert (verdict.word, verdict.reason) == ("inconclusive" if reason else "supported", reason)
    absent = [record for record in records if record.params["adapter.rank"] != 16]
    [without] = judge_claims(facts, group_by_setting(facts, absent), None)
    if "rises_with" in claim:
        assert (without.word, without.reason) == ("inconclusive", "adapter.rank=16 has not run")
    if claim.get("better") == {"adapter.rank": 16}:
        assert (without.word, without.reason) == ("inconclusive", "rank=16 has not run")


def test_a_claim_says_that_it_was_written_after_the_first_result(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    before, after = (
        ClaimConfig(words=words, source="s", metric=METRIC, value={"adapter.rank": 4}, between=[0.1, None])
        for words in ("w", "w, but no less")
    )
    known = [fingerprint_claim(before)]
    later = [*known, fingerprint_claim(after)]
    records = [
        make_record(
            n,
            {"adapter.rank": 4},
            n,
            scores={"new": {"acc": Score(0.5 + n / 100, None, 90)}},
            provenance={"claims": known if n == 0 else later},
        )
        for n in (0, 1)
    ]
    facts = make_facts(seeds=[0, 1], claims=[before.model_dump(), after.model_dump()])
    reasons = [one.reason for one in judge_claims(facts, group_by_setting(facts, records), None)]
    assert reasons == ["", "written after the first result"]


def test_parts_of_points_compare_what_is_alike_in_the_rest(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    points = [(rank, rate) for rank in (4, 8) for rate in (1, 2, 3) if (rank, rate) != (8, 3)]
    records = [
        make_record(2 * n + seed, {"adapter.rank": rank, "optimizer.lr": rate}, seed, 10.0 * rate + rank + seed / 8)
        for n, (rank, rate) in enumerate(points)
        for seed in (0, 1)
    ]
    loss = "heldout_loss_nats_per_token"
    pair = {"better": {"adapter.rank": 4}, "worse": {"adapter.rank": 8}}
    claim = {"words": "w", "source": "s", "metric": loss, **pair}
    facts = make_facts(seeds=[0, 1], claims=[claim])
    found = judge_claims(facts, group_by_setting(facts, records), None)[0].estimate
    assert found is not None
    assert found.value == pytest.approx(-4.0)  # rate 3 has no rank 8, so it takes no part


def test_losses_of_other_data_have_no_part_in_a_claim(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    losses = {
        ("a", 4): (1.0, 1.1, 1.2),
        ("a", 8): (0.8, 1.0, 0.9),
        ("b", 4): (3.0, 5.0, 4.5),
        ("b", 8): (4.0, 3.5, 6.0),
    }
    points = [(*point, seed, loss) for point, row in losses.items() for seed, loss in enumerate(row)]
    records = [
        make_record(n, {"data": data, "adapter.rank": rank}, seed, loss)
        for n, (data, rank, seed, loss) in enumerate(points)
    ]
    of_a = [{"data": "a", "adapter.rank": rank} for rank in (8, 4)]
    claim = {"words": "w", "source": "s", "metric": "heldout_loss_nats_per_token", "same": of_a, "margin": 0.4}
    over_both = claim | {"same": [{"adapter.rank": 8}, {"adapter.rank": 4}]}
    facts = make_facts(seeds=[0, 1, 2], claims=[claim, over_both])
    found, both = (one.estimate for one in judge_claims(facts, group_by_setting(facts, records), None))
    assert found is not None
    assert both is not None
    assert found.value == pytest.approx(0.9 - 1.1)
    scaled = [np.mean(losses["a", rank]) * np.log(losses["a", rank]) for rank in (8, 4)]
    error = stats.sem(scaled[0] - scaled[1])
    assert found.se == pytest.approx(error, rel=0.3)  # of the logarithms, and of nothing of b, which spreads ten times
    means = {point: np.mean(row) for point, row in losses.items()}
    assert both.value == pytest.approx(np.mean([means[data, 8] - means[data, 4] for data in "ab"]))


def test_contradicting_sources_stand_side_by_side_with_their_figures(judge: Judge) -> None:
    claim = {"ratio": [{"adapter.rank": 8}, {"adapter.rank": 4}]}
    rows = [judge(VALUES, **claim, between=ends, published=sum(ends) / 2) for ends in ([1.0, 1.2], [1.4, 2.0])]
    table = build_claims_table(rows)
    assert table is not None
    assert [[cell.text for cell in row[1:4]] for row in table.rows] == [
        ["contradicted", "1.656", "1.100"],
        ["supported", "1.656", "1.700"],
    ]
    assert build_claims_table([]) is None


def test_published_values_are_for_the_chart(judge: Judge) -> None:
    found = list_published_values([judge(VALUES, value={"adapter.rank": 8}, between=[0.4, 0.6], published=0.55)])
    assert [(one.params, one.value) for one in found] == [({"adapter.rank": 8}, 0.55)]


def test_a_trend_over_values_that_are_lists(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    betas = [[0.9, 0.99], [0.9, 0.999]]
    claim = {"words": "w", "source": "s", "metric": METRIC, "rises_with": "optimizer.betas"}
    facts = make_facts(space={"optimizer.betas": {"choices": betas}}, seeds=[0, 1], claims=[claim])
    records = [
        make_record(
            2 * n + seed,
            {"optimizer.betas": pair},
            seed,
            scores={"new": {"acc": Score(0.5 + n / 10 + seed / 100, None, 9)}},
        )
        for n, pair in enumerate(betas)
        for seed in (0, 1)
    ]
    [judged] = judge_claims(facts, group_by_setting(facts, records), None)
    assert judged.estimate is not None
    assert judged.estimate.value == pytest.approx(0.1)
