"""Which of several bases a row of the settings' table is of."""

from collections.abc import Callable
from typing import Any

from sweeplab.records.record import BaseScore, Score, StudyFacts, TrialRecord, base_key
from sweeplab.report.evidence.bases import find_base_of, label_bases
from sweeplab.report.evidence.settings import LOSS, group_by_setting
from sweeplab.report.findings.settings_table import build_settings_table

RecordFactory = Callable[..., TrialRecord]
FactsFactory = Callable[..., StudyFacts]


def trained(
    make_record: RecordFactory,
    number: int,
    params: dict[str, Any],
    data_dir: str | None = None,
    files: str | None = None,
) -> TrialRecord:
    config: dict[str, Any] = {
        "model": {"name": "tiny"},
        "quantization": {"scheme": params["quantization"]},
        "data": {"path": "a.json"},
        "evaluation": {"tasks": ["t"], "rung_tasks": [], "data_dir": data_dir},
        "training": {"max_length": 64},
    }
    names = ("sweeplab", "torch", "transformers", "bitsandbytes", "hqq", "lm_eval", "datasets")
    provenance = {
        "versions": dict.fromkeys(names, "1"),
        **{name: name for name in ("base_fingerprint", "data_fingerprint", "device", "commit")},
    }
    own = {} if files is None else {"tasks_fingerprint": files}
    return make_record(number, params, config=config, provenance=provenance | own)


def base_of(record: TrialRecord, loss: float, dtype: str = "torch.bfloat16") -> BaseScore:
    key = base_key(record.config, dtype, record.provenance.get("tasks_fingerprint"), record.provenance)
    return BaseScore(key, loss, {"t": {"acc": Score(0.25, 0.1, 20)}}, 1.0, {})


def test_bases_are_told_apart_by_what_their_trials_have_in_common(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    points = [(scheme, rank) for scheme in ("nf4", "none") for rank in (4, 8)]
    records = [
        trained(make_record, n, {"quantization": scheme, "adapter.rank": rank})
        for n, (scheme, rank) in enumerate(points)
    ]
    space = {"quantization": {"choices": ["nf4", "none"]}, "adapter.rank": {"choices": [4, 8]}}
    facts = make_facts(space=space)
    bases = [base_of(records[2], 2.0), base_of(records[0], 2.5)]
    assert label_bases(facts, records, bases) == [(bases[0], "quantization=none"), (bases[1], "quantization=nf4")]
    table = build_settings_table(facts, group_by_setting(facts, records), bases=bases)
    assert [row[0].text for row in table.rows[:2]] == ["base model", "base model"]
    assert [row[0].note for row in table.rows[:2]] == [
        "without adapter, quantization=none",
        "without adapter, quantization=nf4",
    ]
    assert (table.num_bases, table.marked) == (2, None)  # one seed: none is the best
    unknown = [trained(make_record, n, one.params, "tasks") for n, one in enumerate(records)]  # tasks from files
    for others in (unknown, [make_record(0, {})]):
        assert [which for _, which in label_bases(facts, others, bases)] == ["number 1", "number 2"]


def test_bases_that_score_the_same_are_one_row(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    records = [trained(make_record, n, {"quantization": scheme}) for n, scheme in enumerate(("nf4", "none"))]
    bases = [base_of(record, 2.0) for record in records]
    facts = make_facts(space={"quantization": {"choices": ["nf4", "none"]}})
    assert label_bases(facts, records, bases) == [(bases[0], "")]
    table = build_settings_table(facts, group_by_setting(facts, records), bases=bases)
    assert [row[0].text for row in table.rows] == ["base model", "nf4", "none"]
    assert (table.num_bases, table.marked) == (1, None)


def test_bases_of_tasks_from_files_are_told_apart_too(make_facts: FactsFactory, make_record: RecordFactory) -> None:
    schemes = ("nf4", "none")
    records = [trained(make_record, n, {"quantization": one}, "tasks", "sha256:t") for n, one in enumerate(schemes)]
    facts = make_facts(space={"quantization": {"choices": list(schemes)}})
    bases = [base_of(record, 2.0 + number) for number, record in enumerate(records)]
    assert [which for _, which in label_bases(facts, records, bases)] == ["quantization=nf4", "quantization=none"]
    changed = [trained(make_record, n, {"quantization": one}, "tasks", "sha256:u") for n, one in enumerate(schemes)]
    assert [which for _, which in label_bases(facts, changed, bases)] == ["number 1", "number 2"]


def test_a_setting_is_not_held_against_another_settings_base(
    make_facts: FactsFactory, make_record: RecordFactory
) -> None:
    """The own one may not be scored yet, while a study runs."""
    records = [trained(make_record, n, {"quantization": scheme}) for n, scheme in enumerate(("nf4", "none"))]
    facts = make_facts(space={"quantization": {"choices": ["nf4", "none"]}})
    quantized, whole = group_by_setting(facts, records)
    bases = [base_of(records[0], 2.5)]
    assert find_base_of(quantized, bases, LOSS) == 2.5
    assert find_base_of(whole, bases, LOSS) is None
    assert find_base_of(whole, [*bases, base_of(records[1], 2.0)], LOSS) == 2.0
    bare = group_by_setting(facts, [make_record(0, {"quantization": "none"})])  # says nothing of its base
    assert find_base_of(bare[0], bases, LOSS) == 2.5
