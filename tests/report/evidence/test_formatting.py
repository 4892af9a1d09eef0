"""Numbers, units and sentences, word for word."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sweeplab.records.record import Score, Status, StudyFacts, TrialRecord
from sweeplab.report import summarize_answer, summarize_settings
from sweeplab.report.evidence.estimates import gather_evidence
from sweeplab.report.evidence.formatting import (
    DASH,
    format_duration,
    format_ends,
    format_estimate,
    format_memory,
    format_number,
    format_plus_minus,
    format_value,
)
from sweeplab.report.evidence.provenance import Fact, list_provenance
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.findings.settings_table import build_settings_table
from sweeplab.report.findings.trials_table import build_phases_table, build_trials_table
from sweeplab.statistics.intervals import Estimate

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH),
        (0, "0.000"),
        (0.81249, "0.812"),
        (1.5, "1.500"),
        (0.0012345, "0.00123"),
        (-0.5, "-0.500"),
        (123.456, "123.5"),
        (12345.6, "12,346"),
        (0.00012345, "0.000123"),
        (1.2345e-9, "1.23e-09"),
        (-1e-12, "-1e-12"),
        (0.0099999, "0.010"),  # what rounds to a power of ten has its places
        (0.00999, "0.00999"),
        (0.00099999, "0.00100"),
        (99.99999, "100.0"),
        (999.96, "1,000"),
    ],
)
def test_number(value: Any, text: str) -> None:
    assert format_number(value) == text


def test_a_spread_has_the_places_of_its_mean_and_never_turns_into_zero() -> None:
    assert format_plus_minus(1.25, 0.0625) == "1.250 ± 0.062"
    assert format_plus_minus(1.25, 0.00004) == "1.250 ± 4e-05"
    assert format_plus_minus(1.25, 0.0) == "1.250 ± 0.000"
    assert format_plus_minus(1.25, None) == "1.250"
    assert format_plus_minus(None, None) == DASH


def test_an_interval_has_the_digits_that_its_ends_and_its_width_need() -> None:
    assert format_ends("", 0.787, 0.903) == "[0.787, 0.903]"
    assert format_ends("", 2.67081, 2.67119) == "[2.6708, 2.6712]"
    assert format_ends("", 0.5, 0.5) == "[0.500, 0.500]"
    assert format_ends("", 0.0, 0.0) == "[0.000, 0.000]"
    assert format_ends("", -2e-9, 3.25e-9) == "[-2e-09, 3.25e-09]"
    assert format_ends("", 1.0, 1.0 + 1e-9) == "[1, 1.000000001]"


def test_what_was_drawn_from_a_range_has_four_digits_and_what_was_typed_has_all(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    params = {"optimizer.lr": 0.00359631234, "adapter.alpha": 0.123456}
    space = {"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "adapter.alpha": {"choices": [0.123456]}}
    facts, record = make_facts(space=space), make_record(0, params)
    assert group_by_setting(facts, [record])[0].label == "lr=0.003596, alpha=0.123456"
    assert [cell.text for cell in summarize_settings(facts, [record]).rows[0][:2]] == ["0.003596", "0.123456"]
    assert [cell.text for cell in build_trials_table(facts, [record]).rows[0][1:3]] == ["0.003596", "0.123456"]
    assert record.params == params


def three_settings(make_record: RecordFactory, losses: list[tuple[float, float]]) -> list[TrialRecord]:
    points = [(place, seed, loss) for place, pair in enumerate(losses) for seed, loss in enumerate(pair)]
    return [make_record(n, {"adapter.rank": 2**place}, seed, loss) for n, (place, seed, loss) in enumerate(points)]


def test_a_setting_that_diverges_does_not_widen_the_others(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    near = [(1.00, 1.01), (1.30, 1.32), (1.61, 1.60), (1.90, 1.92)]
    records = three_settings(make_record, [*near, (0.001, 9.0)])
    facts = make_facts(seeds=[0, 1])
    table = build_settings_table(facts, group_by_setting(facts, records))
    notes = {row[0].text: row[1].note for row in table.rows}
    assert notes["1"].startswith("[0.")
    assert notes["16"].endswith(", own spread")
    sentences = summarize_answer(facts, records)
    assert sentences[0] == (
        "Use rank=1: it has the lowest held-out loss, 1.005 nats/target, against a median of 1.605 nats/target over "
        "the 5 settings; rank=16 may be as good, every other setting is worse."
    )
    assert sentences[-1] == (
        "The settings share what is known of their spread over seeds, of the logarithm: 3 degrees of freedom. rank=16 "
        "spreads more than the others (a test at 0.2 %), so that differences from there stand on their own seeds, and "
        "have to be large to be seen."
    )


def test_settings_without_any_spread_have_no_part_in_the_shared_variance(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = three_settings(make_record, [(3.0, 3.0), (1.00, 1.01), (1.30, 1.32), (3.0, 3.0), (1.61, 1.60)])
    assert summarize_answer(make_facts(seeds=[0, 1]), records)[-1] == (
        "The settings share what is known of their spread over seeds, of the logarithm: 2 degrees of freedom, and "
        "wider intervals where they spread unlike."
    )
    lone = summarize_answer(make_facts(seeds=[0, 1]), records[:4] + records[6:8])
    assert lone[-1] == "Each difference stands on its own seeds."


def test_no_spread_at_all_is_said_and_no_difference_of_nothing(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = three_settings(make_record, [(0.1, 0.1), (0.3, 0.3), (0.7, 0.7)])
    sentences = summarize_answer(make_facts(seeds=[0, 1]), records)
    assert any(one.startswith("Every difference between settings is the same with all seeds") for one in sentences)
    assert not any("true difference" in one for one in sentences)
    assert sentences[0] == (
        "rank=1 has the lowest held-out loss, 0.100 nats/target, against a median of 0.300 nats/target over the 3 "
        "settings; how far chance goes is not known, so that no setting is called the best."
    )
    sized = [replace(one, adapter_bytes=1000 * one.params["adapter.rank"]) for one in records]
    sizes = summarize_answer(make_facts(seeds=[0, 1], objectives={"adapter_bytes": "minimize"}), sized)
    assert sizes[0].endswith("and every other setting is worse.")


def test_settings_are_compared_over_the_seeds_that_both_have_and_no_interval_lacks_its_own_mean(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    rows = [(1, 0, 0.50), (1, 1, 0.54), (1, 2, 0.98), (2, 0, 0.70), (2, 1, 0.72), (4, 0, 0.10), (4, 1, 0.12)]
    records = [
        make_record(n, {"adapter.rank": rank}, seed, scores={"t": {"acc": Score(value, None, 100)}})
        for n, (rank, seed, value) in enumerate(rows)
    ]
    facts = make_facts(seeds=[0, 1, 2], objectives={"scores.t.acc": "maximize"})
    sentences = summarize_answer(facts, records)
    assert sentences[0].startswith("Use rank=2: its acc on t is 0.710, against a median of 0.673 over the 3 settings")
    assert (
        "Without a run: rank=2 of seed 2; rank=4 of seed 2. Two settings are compared over the seeds that both have; "
        "one with a single seed is not called worse, nor the best." in sentences
    )
    table = summarize_settings(facts, records)
    assert table.marked == 0
    assert [row[1].text for row in table.rows[:2]] == ["0.710 ± 0.014", "0.673 ± 0.266"]
    evidence = gather_evidence(facts, group_by_setting(facts, records), "scores.t.acc", None)
    assert evidence is not None
    for one in evidence.estimates:
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high
    compared = evidence.compared()
    assert compared is not None
    assert evidence.settings[compared.best] is evidence.best
    assert compared.differences[0].value == pytest.approx(0.52 - 0.71)  # over seeds 0 and 1
    apart = summarize_answer(make_facts(seeds=[], objectives=facts.objectives), [records[0], records[4]])
    assert apart[0].startswith("With one seed rank=2 has the highest acc on t, 0.720")
    assert summarize_settings(make_facts(seeds=[]), [records[0], records[4]]).marked is None


def test_a_seed_that_is_not_done_does_not_turn_the_answer_around(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    """A fourth seed was asked for, and one setting alone, the worst, has it so far."""
    values = {2: (0.10, 0.09, 0.11), 64: (0.85, 0.84, 0.84), 8: (0.30, 0.32, 0.31)}
    points = [(rank, seed, value) for rank, row in values.items() for seed, value in enumerate(row)]
    records = [
        make_record(n, {"adapter.rank": rank}, seed, scores={"t": {"acc": Score(value, None, 200)}})
        for n, (rank, seed, value) in enumerate([*points, (2, 3, 0.098)])
    ]
    facts = make_facts(seeds=[0, 1, 2, 3], objectives={"scores.t.acc": "maximize"})
    assert summarize_answer(facts, records)[0].startswith("Use rank=64: its acc on t is 0.843")
    lost = [record for record in records if (record.params["adapter.rank"], record.seed) != (64, 1)]
    assert summarize_answer(facts, lost)[0].startswith("Use rank=64: its acc on t is 0.845")


def test_a_run_that_failed_counts_as_the_worst(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    rows = [(4, 0, 1.00), (4, 1, 1.02), (8, 0, 0.50), (8, 1, None), (16, 0, 1.30), (16, 1, 1.31)]
    records = [make_record(n, {"adapter.rank": rank}, seed, loss) for n, (rank, seed, loss) in enumerate(rows)]
    facts = make_facts(seeds=[0, 1])
    sentences = summarize_answer(facts, records)
    assert "rank=4 leads by held-out loss, 1.010 nats/target" in sentences[0]  # rank 8 has 0.500 where it finished
    assert (
        "Runs that failed, diverged or were pruned count as the worst value seen: rank=8 1 of 2, that is 1 to 99 % of "
        "its runs." in sentences
    )  # Clopper and Pearson: 1 - 0.025 ** 0.5 = 0.842 for 2 of 2, and 0.0126 to 0.9874 for 1 of 2
    evidence = gather_evidence(facts, group_by_setting(facts, records), "heldout_loss_nats_per_token", None)
    assert evidence is not None
    assert evidence.table.values_KS[1].tolist() == [0.50, 1.31]
    assert (evidence.estimates[1].value, evidence.estimates[1].low) == (0.50, None)
    assert evidence.num_worst == [0, 1, 0]


def test_one_seed_decides_nothing(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [
        make_record(n, {"adapter.rank": 2**n}, 0, scores={"t": {"acc": Score(value, 0.01, 100)}})
        for n, value in enumerate((0.9, 0.5, 0.1))
    ]
    facts = make_facts(objectives={"scores.t.acc": "maximize"})
    assert summarize_answer(facts, records)[0] == (
        "With one seed rank=1 has the highest acc on t, 0.900, against a median of 0.500 over the 3 settings; another "
        "seed may turn that around, so that nothing is decided."
    )


def test_held_out_losses_of_different_data_have_no_best_in_common(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    points = [(data, rank) for data in ("tiny_facts", "tiny_operation") for rank in (4, 8)]
    records = [
        make_record(n, {"data": data, "adapter.rank": rank}, loss=n + 1.0) for n, (data, rank) in enumerate(points)
    ]
    space = {"data": {"choices": ["tiny_facts", "tiny_operation"]}, "adapter.rank": {"choices": [4, 8]}}
    facts = make_facts(space=space)
    said = summarize_answer(facts, records)
    assert said[0].startswith("Held-out losses of different data, or of examples cut at different lengths, are of diff")
    assert said[1].startswith("With data=tiny_facts: With one seed rank=4 has the lowest held-out loss, 1.000")
    assert said[2].startswith("With data=tiny_operation: With one seed rank=4 has the lowest held-out")
    assert summarize_settings(facts, records).marked is None
    scored = make_facts(space=space, objectives={"scores.t.acc": "maximize"})
    for place, record in enumerate(records):
        record.scores = {"t": {"acc": Score(place / 8, 0.1, 20)}}
    assert summarize_settings(scored, records).marked is None  # one seed
    assert [cell.text for cell in summarize_settings(scored, records).rows[0][:2]] == ["tiny_operation", "8"]
    fewer = [replace(one, params={"data.fraction": one.params["adapter.rank"] / 8}) for one in records[:2]]
    share_facts = make_facts(space={"data.fraction": {"choices": [0.5, 1.0]}})
    assert [row[0].text for row in summarize_settings(share_facts, fewer).rows] == ["0.5", "1"]


def test_studies_of_different_data_have_no_best_in_common_either(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    facts = make_facts(space={"study": {"choices": ["a", "b"]}})
    records = [
        make_record(n, {"study": name}, loss=n + 1.0, config={"data": {"path": f"{name}.json", "num_examples": n}})
        for n, name in enumerate("ab")
    ]
    assert summarize_answer(facts, records)[1].startswith("With study=a: ")
    alike = [replace(one, config={"data": {"path": "a.json", "num_examples": one.number}}) for one in records]
    assert summarize_answer(facts, alike)[0].startswith("With one seed study=a has the lowest held-out loss")


def test_memory_and_durations_change_their_units() -> None:
    assert [format_memory(size) for size in (None, 512, 1023, 1536, 3 * 2**19, 700 * 2**20, 2**30 - 1, 3 * 2**30)] == [
        DASH, "512 B", "1023 B", "1.5 KiB", "1.5 MiB", "700 MiB", "1 GiB", "3 GiB",
    ]  # fmt: skip
    assert [format_duration(time) for time in (None, 8.24, 59.94, 59.97, 185, 3599.9, 7440)] == [
        DASH, "8.2 s", "59.9 s", "1 min 00 s", "3 min 05 s", "1 h 00 min", "2 h 04 min",
    ]  # fmt: skip


def test_values_read_as_a_user_would_type_them() -> None:
    assert [format_value(value) for value in (True, None, 1e-4, 8, "a\nb", [1, "x"])] == [
        "true", "null", "0.0001", "8", "a b", '[1, "x"]',
    ]  # fmt: skip


def test_the_answer_names_the_best_its_gain_and_its_rivals(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    facts = make_facts(seeds=[0, 1], num_planned=8)
    rows = [(4, 1.0), (4, 1.5), (8, 1.75), (8, 1.25), (16, 90.0), (16, 91.0), (32, 0.5), (32, None)]
    records = [make_record(n, {"adapter.rank": rank}, n % 2, loss) for n, (rank, loss) in enumerate(rows)]
    answer = summarize_answer(facts, records)
    assert answer[:3] == [
        "No winner: each of the 4 settings may be as good as the others. rank=4 leads by held-out loss, 1.250 "
        "nats/target, against a median of 1.375 nats/target over the 4 settings, with runs that did not finish counted "
        "as the worst value seen.",
        "The best lies at an end of what was tried, adapter.rank=4 (smallest): a better one may lie beyond.",
        "7 of 8 started trials finished (8 planned).",
    ]


def test_the_answer_of_one_seed_says_that_it_has_no_spread(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = [make_record(n, {"adapter.rank": rank}, 0, loss) for n, (rank, loss) in enumerate([(4, 1.5), (8, 1.25)])]
    assert summarize_answer(make_facts(), records) == [
        "With one seed rank=8 has the lowest held-out loss, 1.250 nats/target, against 1.500 nats/target of the other; "
        "another seed may turn that around, so that nothing is decided.",
        "2 of 2 started trials finished.",
        "rank=8: 1.250 nats/target, 1 seed; without an interval.",
        "With one seed nothing is known of the spread over seeds: a difference may be the seed's, and an interval over "
        "items does not cover that. Run two seeds or more, study.seeds=[0,1].",
    ]


def test_the_answer_without_a_finished_trial_invents_nothing(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    assert summarize_answer(make_facts(), []) == ["No trial has been recorded yet."]
    failed = summarize_answer(make_facts(), [make_record(0, {"adapter.rank": 4}, 0, None)])
    assert failed[0] == "No trial finished, so there is nothing to compare: 1 of 1 failed (it broke)."
    assert failed[1] == "0 of 1 started trial finished."
    many = [make_record(number, {"adapter.rank": 4}, number, None) for number in range(3)]
    many[0].status, many[0].reason = Status.TIMED_OUT, None
    assert summarize_answer(make_facts(), many)[0].endswith("to compare: 2 of 3 failed (the first: it broke).")


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        pytest.param({4: 1.0, 8: 2.0, 16: 3.0}, "adapter.rank=4 (smallest)", id="smallest"),
        pytest.param({4: 3.0, 8: 2.0, 16: 1.0}, "adapter.rank=16 (largest)", id="largest"),
        pytest.param({4: 2.0, 8: 1.0, 16: 3.0}, None, id="within"),
        pytest.param({4: 1.0, 8: 2.0}, None, id="two are no range"),
    ],
)
def test_a_best_at_the_end_of_a_range_asks_for_a_wider_one(
    make_facts: FactsFactory, make_record: RecordFactory, losses: dict[int, float], ends: str | None
) -> None:
    records = [make_record(n, {"adapter.rank": rank}, 0, loss) for n, (rank, loss) in enumerate(losses.items())]
    said = [sentence for sentence in summarize_answer(make_facts(), records) if "an end of what was tried" in sentence]
    expected = f"The best lies at an end of what was tried, {ends}: a better one may lie beyond."
    assert said == ([] if ends is None else [expected])
    drawn = make_facts(space={"adapter.rank": {"low": 4, "high": 16}})
    assert not any("an end of what was tried" in sentence for sentence in summarize_answer(drawn, records))


def test_a_score_as_the_objective_is_named_with_its_task(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    facts = make_facts(objectives={"scores.facts.exact_match": "maximize"})
    record = make_record(0, {"adapter.rank": 4}, scores={"facts": {"exact_match": Score(0.75, 0.05, 80)}})
    answer = summarize_answer(facts, [record])
    assert answer[0] == "One setting was run, rank=4: exact match on facts 0.750."
    assert answer[2] == "rank=4: 0.750 [0.645, 0.832]; the interval is over items."


def test_summary_table_of_a_study(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    rows = [(4, 0, 1.0), (4, 1, 1.5), (8, 0, None), (8, 1, 2.0), (16, 0, None)]
    score = {"task": {"acc": Score(0.5, 0.05, 100), "acc_norm": Score(0.6, 0.05, 100)}}
    records = [
        make_record(n, {"adapter.rank": rank}, seed, loss, scores=score if loss else None)
        for n, (rank, seed, loss) in enumerate(rows)
    ]
    objectives = {"heldout_loss_nats_per_token": "minimize", "scores.task.acc": "maximize"}
    table = summarize_settings(make_facts(seeds=[0, 1], objectives=objectives), records)  # acc_norm is no objective
    assert [column.title for column in table.columns] == [
        "rank", "held-out loss", "finished", "task, acc", "peak memory of the process", "training time",
        "trainable parameters",
    ]  # fmt: skip
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["4", "1.250 ± 0.354", "2/2", "0.500 ± 0.000", "512 MiB", "10.5 s", "1,000"],
        ["8", "2.000", "1/2", "0.500", "512 MiB", "11.0 s", "1,000"],
        ["16", DASH, "0/1", DASH, DASH, DASH, DASH],
    ]
    assert table.marked is None  # rank 8 lacks a run
    assert table.columns[3].unit == "100 items"
    assert table.rows[0][3][1::2] == ("[0.000, 1.000]", "se 0.050")  # no spread is that of two items, with one freedom
    assert table.rows[0][6].note == "1 % of base"


def test_gpu_memory_is_preferred_and_named(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    record = make_record(0, {"adapter.rank": 4})
    record.phases["train"].peak_allocated_bytes = 3 * 2**30
    facts = make_facts()
    table = build_settings_table(facts, group_by_setting(facts, [record]))
    titles = [column.title for column in table.columns]
    assert table.rows[0][titles.index("peak GPU memory")].text == "3 GiB"
    assert "peak memory of the process" not in titles


def test_trials_table_shows_failures_with_reason_and_place(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    table = build_trials_table(make_facts(), [make_record(3, {"adapter.rank": 4}, 1, None)])
    assert [cell.text for cell in table.rows[0]] == ["3", "4", "1", "failed", DASH, "11.0 s", "it broke"]
    assert table.rows[0][-1].note == "in train, at step 7"


def test_trials_table_says_whose_weights_were_kept(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    best, last = make_record(0, {"adapter.rank": 4}, 0), make_record(1, {"adapter.rank": 4}, 1)
    best.kept_step, best.reason = 20, "ended after 40 of 80 steps"
    assert "weights of step" not in [column.title for column in build_trials_table(make_facts(), [last]).columns]
    table = build_trials_table(make_facts(), [best, last])
    place = [column.title for column in table.columns].index("weights of step")
    assert [row[place].text for row in table.rows] == ["20", DASH]
    assert table.rows[0][-1].text == "ended after 40 of 80 steps"


def test_phases_sum_over_failed_trials_too(make_record: RecordFactory) -> None:
    table = build_phases_table([make_record(0, {}, 0), make_record(1, {}, 1, None)])
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["load", "2", "3.0 s", "1.5 s"],
        ["train", "2", "21.0 s", "10.5 s"],
        ["evaluate", "2", "8.0 s", "4.0 s"],
    ]


def test_provenance_is_said_once_where_trials_agree(make_record: RecordFactory) -> None:
    records = [
        make_record(n, {}, provenance={"commit": "a", "device": {"name": name}} | ({"note": "x"} if n == 4 else {}))
        for n, name in enumerate(["cpu", "cpu", "gpu", "cpu", "gpu"])
    ]
    assert list_provenance(records) == [
        Fact("commit", "a"),
        Fact("device.name", "cpu", "0 to 1, 3"),
        Fact("device.name", "gpu", "2, 4"),
        Fact("note", DASH, "0 to 3"),
        Fact("note", "x", "4"),
    ]


def test_bits_of_the_base_are_a_column_where_settings_differ_in_them(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    bits = {"nf4_dq": 5.19520, "hqq3": 4.83167, "none": None}
    records = [
        make_record(n, {"quantization": name}, base_bits_per_param=value)
        for n, (name, value) in enumerate(bits.items())
    ]
    facts = make_facts(space={"quantization": {"choices": list(bits)}})
    table = build_settings_table(facts, group_by_setting(facts, records))
    [place] = [index for index, column in enumerate(table.columns) if column.unit == "bits/parameter"]
    assert [row[place].text for row in table.rows] == ["5.195", "4.832", "–"]
    alike = build_settings_table(facts, group_by_setting(facts, records[:1]))
    assert "bits/parameter" not in [column.unit for column in alike.columns]


def test_the_answer_says_where_examples_were_cut_once_per_length(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    rows = [(64, 3, 0), (64, 9, 2), (64, 9, 2), (128, 1, 0), (256, 0, 0), (32, None, None)]
    records = [
        make_record(
            place,
            {"training.max_length": length},
            loss=1.0 + place,
            config={"training": {"max_length": length}},
            num_train_examples=1200,
            num_truncated=cut,
            num_dropped=dropped,
        )
        for place, (length, cut, dropped) in enumerate(rows)
    ]
    expected = [
        "training.max_length=64 cut 9 of 1,200 training examples, 2 of them before the response began, so that nothing "
        "was left to learn; raise it to learn from whole examples.",
        "training.max_length=128 cut 1 of 1,200 training examples; raise it to learn from whole examples.",
    ]
    assert [one for one in summarize_answer(make_facts(), records) if one.startswith("training.")] == expected
    failed = [replace(record, status=Status.FAILED) for record in records]
    assert summarize_answer(make_facts(), failed)[1:-1] == expected
    assert not any(" cut " in said for said in summarize_answer(make_facts(), records[4:]))
    named = [replace(record, num_naming_special=place) for place, record in enumerate(records[4:])]
    assert (
        "1 training example named special tokens in the data's own text; they were learned as text."
        in summarize_answer(make_facts(), named)
    )
    skipped = [replace(record, num_skipped=place) for place, record in enumerate(records[3:])]
    assert "2 records of the data teach nothing and were skipped." in summarize_answer(make_facts(), skipped)
    assert not any("skipped" in said for said in summarize_answer(make_facts(), skipped[:1]))
    learned = [replace(record, num_learned=place, num_heldout_examples=4) for place, record in enumerate(records[3:])]
    assert (
        "2 of 4 held-out examples stood in training too: the held-out loss says how well they were learned by heart."
        in summarize_answer(make_facts(), learned)
    )
    assert not any("stood in training" in said for said in summarize_answer(make_facts(), learned[:1]))
    unknown = [replace(records[3], num_train_examples=None, num_dropped=None)]
    assert (
        "training.max_length=128 cut 1 training example; raise it to learn"
        in summarize_answer(make_facts(), unknown)[1]
    )


@pytest.mark.parametrize(
    ("metric", "value", "low", "high", "shown"),
    [
        ("scores.t.f", 1234.4, 1234.1, 1234.6, "1,234.4 [1,234.1, 1,234.6]"),
        ("scores.t.f", 1.234567e-12, 1.23456e-12, 1.23458e-12, "1.234567e-12 [1.23456e-12, 1.23458e-12]"),
        ("scores.t.f", 0.1, -0.0003, 0.5, "0.100 [-0.0003, 0.5000]"),
        ("scores.t.f", -0.2, -0.5, -0.0003, "-0.200 [-0.5000, -0.0003]"),
        ("scores.t.f", -0.0, -1e-9, 0.5, "0.000 [0.000, 0.500]"),
        ("heldout_loss_nats_per_token", 0.023, 1.45e-21, 3.73e17, "0.023 nats/target [0.000, \N{INFINITY})"),
        ("phases.train.seconds", 239.0, 0.0, 1e7, "3 min 59 s [0 ms, \N{INFINITY})"),
    ],
)
def test_a_mean_lies_within_its_interval_as_both_are_written(
    metric: str, value: float, low: float, high: float, shown: str
) -> None:
    assert format_estimate(metric, Estimate(value, 1.0, 1.0, low, high, "seeds")) == shown


def test_a_spread_of_a_large_number_has_as_many_digits() -> None:
    assert format_plus_minus(4.15e9, 4_777_162_550.0) == "4.15e+09 ± 4.78e+09"
