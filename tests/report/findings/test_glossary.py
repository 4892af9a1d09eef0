"""What the report says of items: which scores have them, and what intervals over them assume."""

from collections.abc import Callable

import numpy as np
import pytest

from sweeplab.records.items import Items, ItemTable
from sweeplab.records.record import Score, StudyFacts, TrialRecord
from sweeplab.report.findings.glossary import explain_terms

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]

NATS = [30.0, 12.0, 7.5]
WORDS = [10, 3, 3]


@pytest.fixture
def records(make_record: RecordFactory) -> list[TrialRecord]:
    """A trial with an accuracy, a perplexity per word and an F1 on three items."""
    perplexity = float(np.exp(sum(NATS) / sum(WORDS)))
    values = {"acc": 2 / 3, "word_perplexity": perplexity, "f1": 0.8}
    scores = {"t": {name: Score(value, 0.1, 3) for name, value in values.items()}}
    return [make_record(0, {}, 0, scores=scores, config={"evaluation": {"clusters": {}}})]


def items(**others: ItemTable) -> Items:
    tables = {
        "acc": ItemTable([0, 1, 2], {0: [1.0, 0.0, 1.0]}),
        "word_perplexity": ItemTable([0, 1, 2], {0: NATS}, WORDS, is_log=True),
    }
    return {f"scores.t.{name}": table for name, table in (tables | others).items()}


def explain_items(facts: StudyFacts, records: list[TrialRecord], found: Items | None) -> str:
    return dict(explain_terms(facts, records, found)).get("items", "")


def test_a_score_that_its_items_do_not_give_is_named(make_facts: FactsFactory, records: list[TrialRecord]) -> None:
    """Also where a file has something by item, as those of earlier versions do of a perplexity."""
    facts = make_facts()
    assert "No items: f1 on t. Such a score" in explain_items(facts, records, items())
    logs = ItemTable([0, 1, 2], {0: [-one for one in NATS]})
    both = explain_items(facts, records, items(word_perplexity=logs, f1=ItemTable([0], {0: [1.0]})))
    assert "No items: word perplexity on t, f1 on t." in both
    assert explain_items(facts, records, None) == ""


def test_independence_is_said_to_be_assumed_but_for_clusters(
    make_facts: FactsFactory, records: list[TrialRecord]
) -> None:
    assert "independent of each other. Which few-shot" in explain_items(make_facts(), records, items())
    records[0].config["evaluation"]["clusters"] = {"t": "passage"}
    said = explain_items(make_facts(), records, items())
    assert "independent of each other, but for clusters (t by passage), each of which counts once." in said
    records[0].config["evaluation"] = {}  # of before there was the key
    assert "independent" not in explain_items(make_facts(), records, items())
