"""The report pools what trials say of their judge by item."""

from sweeplab.records.items import Items, ItemTable
from sweeplab.report.findings.judge import tell_of_judge
from tests.report_records import FactsFactory, RecordFactory, make_facts, make_record

__all__ = ["make_facts", "make_record"]  # rooms

JUDGED = {"evaluation": {"score": "judge", "judge_model": "strong"}}


def table(*values: list[float]) -> ItemTable:
    return ItemTable(list(range(12)), dict(enumerate(values)))


def test_it_says_who_judged_and_whether_a_place_was_preferred(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    records = [make_record(number, {}) for number in range(3)]  # the last one has no items
    items: Items = {
        "scores.own.first_rate": table([1.0] * 12, [1.0] * 6 + [0.5] * 6),
        "scores.own.unreadable": table([0.0] * 12, [0.5] * 2 + [0.0] * 10),
    }
    who, place, lost = tell_of_judge(make_facts(config=JUDGED), records, items)
    assert who == "Judged by strong, both orders asked, against the base's responses."
    assert place.startswith("Warning: the judge prefers the response that is shown first")
    assert "in 1.000 of 12 items [0.735, 1.000]" in place
    assert lost == "2 of at most 48 verdicts could not be read, and their items are ties."
    answers = {"evaluation": {**JUDGED["evaluation"], "judge_reference": "answer"}}
    assert "against the answers of the file" in tell_of_judge(make_facts(config=answers), records, items)[0]


def test_a_study_without_a_judge_says_nothing(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [make_record(0, {})]
    assert tell_of_judge(make_facts(config={}), records, {}) == []
    assert tell_of_judge(make_facts(config=JUDGED), records, {}) == []
    assert tell_of_judge(make_facts(config=JUDGED), records, None) == []
