"""What a value does, and what two keys do together, against sums by hand."""

import itertools
from collections.abc import Callable

import pytest

from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.evidence.estimates import Evidence, gather_evidence
from sweeplab.report.evidence.settings import LOSS, group_by_setting
from sweeplab.report.findings.effects import build_main_effects_table, build_pairs_table

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]

KEYS = ("adapter.a", "adapter.b", "adapter.c")


def study(
    make_facts: FactsFactory, make_record: RecordFactory, keys: tuple[str, ...], missing: tuple[bool, ...] = ()
) -> tuple[StudyFacts, Evidence]:
    """Loss 8 - 4 a - 2 b + a b, with a seed's own small noise; c does nothing."""
    points = [point for point in itertools.product((False, True), repeat=len(keys)) if point != missing]
    records = []
    for n, (point, seed) in enumerate(itertools.product(points, (0, 1))):
        a, b = point[:2]
        loss = 8 - 4 * a - 2 * b + a * b + 0.001 * ((n * 7) % 5)
        records.append(make_record(n, dict(zip(keys, point, strict=True)), seed, loss))
    facts = make_facts(space={key: {"choices": [False, True]} for key in keys}, seeds=[0, 1])
    found = gather_evidence(facts, group_by_setting(facts, records), LOSS, None)
    assert found is not None
    return facts, found


@pytest.mark.parametrize("missing", [(), (False, False, False)])
def test_effects_are_means_over_settings_that_are_else_alike(
    make_facts: FactsFactory, make_record: RecordFactory, missing: tuple[bool, ...]
) -> None:
    facts, found = study(make_facts, make_record, KEYS, missing)
    table = build_main_effects_table(facts, found)
    assert table is not None
    assert [row[0].text for row in table.rows] == ["a=true", "b=true", "c=true"]
    sizes = [row[1].size for row in table.rows]
    lost = 1 if missing else 0
    of_a = (2 * -3 + (2 - lost) * -4) / (4 - lost)  # -4 without b, -3 with it
    of_b = (2 * -1 + (2 - lost) * -2) / (4 - lost)
    assert sizes == pytest.approx([of_a, of_b, 0.0], abs=0.005)
    assert [row[2].text for row in table.rows] == [str(4 - lost)] * 3


def test_keys_that_act_together_are_a_difference_of_differences(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    facts, found = study(make_facts, make_record, KEYS)
    table = build_pairs_table(facts, found)
    assert table is not None
    first = table.rows[0]
    assert first[0].text == "a × b"
    assert first[1].size == pytest.approx(1.0, abs=0.01)
    assert [cell.text[:3] for cell in first[2:]] == ["8.0", "6.0", "4.0", "3.0"]
    assert [cell.note for cell in first[2:]] == ["false, false", "false, true", "true, false", "true, true"]
    assert [row[1].size for row in table.rows[1:]] == pytest.approx([0.0, 0.0], abs=0.01)


def test_two_keys_are_seen_in_a_figure(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    facts, found = study(make_facts, make_record, KEYS[:2])
    assert build_main_effects_table(facts, found) is None
    assert build_pairs_table(facts, found) is None
