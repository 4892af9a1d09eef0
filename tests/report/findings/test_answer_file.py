"""answer.json: it says what the report says, with the numbers of the records."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sweeplab.records.answer import RaceStatement, StudyAnswer, write_answer_schema
from sweeplab.records.record import Status, StudyFacts, TrialRecord
from sweeplab.report import find_answer
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.report.evidence.stored import StoredStudy
from sweeplab.report.findings.answer import state_answer
from sweeplab.report.findings.answer_file import build_answer

ROOT = Path(__file__).parents[3]
SCHEMA = ROOT / "docs" / "answer.schema.json"
NAMES = sorted(path.parent.name for path in (ROOT / "reports").glob("*/records.json"))
LOSS = "heldout_loss_nats_per_token"
LOSSES = {1: (2.0, 2.01), 4: (1.02, 0.99), 16: (1.0, 1.005)}  # by rank and seed
NEXT = {"adapter.rank": 4}


def test_the_committed_schema_is_current_and_is_one() -> None:
    """Else: python -m sweeplab.records.answer > docs/answer.schema.json."""
    assert SCHEMA.read_text(encoding="utf-8") == write_answer_schema()
    Draft202012Validator.check_schema(json.loads(write_answer_schema()))


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_answer_says_what_its_report_says(name: str) -> None:
    text = (ROOT / "reports" / name / "answer.json").read_text(encoding="utf-8")
    assert Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).is_valid(json.loads(text))
    answer = StudyAnswer.model_validate_json(text)
    is_named = any(part.startswith("Use ") for part in answer.statement.split(". "))  # no gain is said before
    assert (answer.recommended is not None, answer.reason is None) == (is_named, is_named)
    if answer.leading is not None:
        assert answer.leading.value.value == pytest.approx(mean_in_records(name, answer), rel=1e-9)
        rivals = [tuple(one.trials) for one in answer.runner_ups]
        assert tuple(answer.leading.trials) not in rivals
        assert not set(rivals) & {tuple(one.trials) for one in answer.dropped if one.outcome == "worse"}


def mean_in_records(name: str, answer: StudyAnswer) -> float:
    """The mean over seeds of the leading setting's objective, read from the JSON itself."""
    assert answer.leading is not None
    records = json.loads((ROOT / "reports" / name / "records.json").read_text(encoding="utf-8"))["records"]
    by_seed: dict[int, list[float]] = {}
    for record in records:
        if record["number"] in answer.leading.trials and record["status"] == "finished":
            by_seed.setdefault(record["seed"], []).append(read_metric(record, answer.objective.metric))
    assert len(by_seed) == answer.leading.num_seeds
    return statistics.fmean(statistics.fmean(values) for values in by_seed.values())


def read_metric(record: dict[str, Any], metric: str) -> float:
    if not metric.startswith("scores."):
        return float(record[metric])
    task, _, score = metric.removeprefix("scores.").rpartition(".")
    return float(record["scores"][task][score]["value"])


@pytest.fixture
def facts(make_facts: Callable[..., StudyFacts]) -> StudyFacts:
    space = {"adapter.rank": {"choices": [1, 4, 16, 64]}}
    return make_facts(objectives={LOSS: "minimize"}, seeds=[0, 1], space=space, num_planned=8)


@pytest.fixture
def records(make_record: Callable[..., TrialRecord]) -> list[TrialRecord]:
    """Rank 16 leads, 4 cannot be told from it, 1 is worse, and both runs of 64 ran out of memory."""
    finished = [
        make_record(4 * seed + index, {"adapter.rank": rank}, seed, losses[seed])
        for seed in (0, 1)
        for index, (rank, losses) in enumerate(LOSSES.items())
    ]
    failed = [make_record(4 * seed + 3, {"adapter.rank": 64}, seed, None) for seed in (0, 1)]
    for record in failed:
        record.status, record.reason = Status.OUT_OF_MEMORY, "no memory"
    return [*finished, *failed]


def answer_of(facts: StudyFacts, records: list[TrialRecord], race: RaceStatement | None = None) -> StudyAnswer:
    settings = group_by_setting(facts, records)
    return build_answer(facts, settings, state_answer(facts, settings), None, race)


def test_what_leads_what_may_be_as_good_and_what_was_dropped(facts: StudyFacts, records: list[TrialRecord]) -> None:
    answer = answer_of(facts, records)
    assert answer.recommended == answer.leading
    assert answer.leading is not None
    assert (answer.leading.params, answer.leading.trials) == ({"adapter.rank": 16}, [2, 6])
    assert answer.leading.value.value == pytest.approx(1.0025)
    (rival,) = answer.runner_ups
    assert rival.params == NEXT
    assert rival.difference is not None
    assert rival.difference.value == pytest.approx(0.0025)
    assert {(one.params["adapter.rank"], one.outcome, tuple(one.trials), one.reason) for one in answer.dropped} == {
        (1, "worse", (0, 4), None),
        (64, "out_of_memory", (3, 7), "no memory"),
    }
    assert rival.difference.low is not None
    assert answer.bound == pytest.approx(-rival.difference.low)  # a smaller loss is better
    assert answer.state == "finished"
    assert [(one.name, one.value, one.end) for one in answer.not_tried.ends] == [("adapter.rank", 16, "largest")]
    assert [one.values for one in answer.not_tried.uncovered] == [[64]]


def test_one_seed_decides_nothing(facts: StudyFacts, records: list[TrialRecord]) -> None:
    answer = answer_of(facts, [record for record in records if record.seed == 0])
    assert (answer.recommended, answer.bound, answer.state) == (None, None, "running")
    assert answer.reason == answer.statement
    assert answer.leading is not None
    assert answer.leading.params == {"adapter.rank": 16}


@pytest.mark.parametrize(
    ("is_decided", "state"),
    [(True, "decided"), (False, "open")],
)
def test_a_race_states_its_own(facts: StudyFacts, records: list[TrialRecord], is_decided: bool, state: str) -> None:
    race = RaceStatement(NEXT, 0.03, 0.05, 0.9, 0 if is_decided else 1, is_decided)
    answer = answer_of(facts, records, race)
    assert (answer.state, answer.bound, answer.within, answer.certainty) == (state, 0.03, 0.05, 0.9)
    assert answer.leading is not None
    assert answer.leading.params == NEXT
    assert (answer.recommended == answer.leading) == is_decided


def test_nothing_leads_without_a_trial(facts: StudyFacts) -> None:
    answer = answer_of(facts, [])
    assert (answer.leading, answer.recommended, answer.bound, answer.time.worker_seconds) == (None, None, None, 0)


def test_trials_that_trained_together_count_once(facts: StudyFacts, records: list[TrialRecord]) -> None:
    """Each of them has the whole cohort's time."""
    apart = answer_of(facts, records).time.worker_seconds
    one, other = records[:2]
    assert one.phases
    assert other.phases == one.phases
    one.cohort = other.cohort = [one.number, other.number]
    of_one = sum(phase.seconds for phase in one.phases.values())
    assert answer_of(facts, records).time.worker_seconds == pytest.approx(apart - of_one)
    assert apart == pytest.approx(4 * (1.5 + 10 + 4) + 4 * (1.5 + 11 + 4))  # load, train, evaluate by seed


def test_the_file_has_ten_digits_of_what_was_computed_and_all_of_what_was_varied(
    make_facts: Callable[..., StudyFacts], make_record: Callable[..., TrialRecord]
) -> None:
    """Further ones depend on the kind of processor, and a committed report would not be what its records give."""
    rate = 0.00031234567890123456
    records = [make_record(n, {"optimizer.lr": lr}, n % 2, 1 / (3 + n)) for n, lr in enumerate([rate, rate, 1.0, 1.0])]
    facts = make_facts(seeds=[0, 1], space={"optimizer.lr": {"choices": [rate, 1.0]}})
    answer = find_answer(StoredStudy(facts, records, None, []))
    values = answer.to_dict()
    assert answer.leading is not None
    assert answer.leading.value.value == pytest.approx((1 / 5 + 1 / 6) / 2, rel=1e-15)
    assert values["leading"]["value"]["value"] == 0.1833333333
    rates = {one["params"]["optimizer.lr"] for one in (values["leading"], *values["runner_ups"], *values["dropped"])}
    assert rates == {rate, 1.0}
