"""What is neither training nor evaluation is done once: profiles where trials share a pass, the base's scores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.lock import claimed
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.store import read_base_scores, write_facts
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial import capacity, scoring
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.profile import measure_solo
from sweeplab.trial.resources import Resources
from tests.trials import SpecFactory, no_words

SHORT = ("quantization=none", "evaluation=none", "training.max_steps=2")
FACTS = StudyFacts("s", None, "", {"solo.peak_allocated_bytes": "minimize"}, [0], {}, 1, {})
LOSS = {"heldout_loss_nats_per_token": "minimize"}
CLAIM = {"words": "w", "source": "s", "metric": "solo.step_seconds", "every": {}, "between": [0, 1]}
CHANGES = ("optimizer.lr=1e-3", "optimizer.lr=1e-4", "adapter.rank=2")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The trials that were profiled, by number."""
    numbers: list[int] = []

    def noting(trial: RunningTrial, resources: Resources) -> Any:
        numbers.append(trial.spec.number)
        return measure_solo(trial, resources)

    monkeypatch.setattr(capacity, "measure_solo", noting)
    return numbers


def run(specs: Sequence[TrialSpec], resources: Resources) -> dict[int, TrialRecord]:
    return {record.number: record for record in run_cohort(specs, resources, lambda *_: None, no_words, lambda: [])}


@pytest.mark.parametrize("alone", [(), ("adapter=norms",)], ids=["in a slot", "exclusive"])
def test_a_trial_that_trains_alone_is_not_measured_before(
    make_spec: SpecFactory, measured: list[int], alone: tuple[str, ...]
) -> None:
    (record,) = run([make_spec(0, *SHORT, *alone)], Resources(torch.device("cpu"))).values()
    assert (measured, record.solo, "profile" in record.phases) == ([], None, False)
    spent = record.phases["train"].processor_seconds
    assert spent is not None
    assert spent > 0


def test_a_layout_is_measured_once_for_trials_that_train_together(make_spec: SpecFactory, measured: list[int]) -> None:
    resources = Resources(torch.device("cpu"), cohort_size=4)
    specs = [make_spec(number, *SHORT, change) for number, change in enumerate(CHANGES)]
    records = run(specs, resources)
    assert [record.cohort for record in records.values()] == [[0, 1, 2]] * 3
    assert measured == [0, 2]
    assert records[0].solo is not None
    assert records[0].solo == records[1].solo != records[2].solo
    assert ["profile" in records[number].phases for number in range(3)] == [True, True, True]
    assert run([make_spec(3, *SHORT, seed=1)], resources)[3].solo == records[0].solo
    assert measured == [0, 2]


@pytest.mark.parametrize(
    "facts",
    [
        FACTS,
        replace(FACTS, objectives=LOSS, constraints={"solo.step_seconds": {"max": 1.0}}),
        replace(FACTS, objectives=LOSS, claims=[CLAIM]),
        replace(FACTS, objectives=LOSS),
    ],
    ids=["objective", "constraint", "claim", "none"],
)
def test_a_trial_is_measured_before_where_the_study_asks(
    make_spec: SpecFactory, measured: list[int], tmp_path: Path, facts: StudyFacts
) -> None:
    spec = make_spec(0, *SHORT)
    spec = replace(spec, folder=tmp_path / "study" / "trials" / "00000")
    write_facts(tmp_path / "study", facts)
    (record,) = run([spec], Resources(torch.device("cpu"))).values()
    asked = facts.claims or facts.constraints or facts is FACTS
    assert measured == ([0] if asked else [])
    assert (record.solo is not None) is bool(asked)


def test_the_base_is_scored_by_one_worker(
    make_spec: SpecFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one, which begins while the first is at it, trains meanwhile."""
    study = tmp_path / "study"
    specs = [replace(make_spec(number, *SHORT), folder=study / "trials" / f"{number:05d}") for number in range(3)]
    claims: list[Path] = []

    def noting(path: Path) -> Any:
        claims.append(path)
        return claimed(path)

    monkeypatch.setattr(scoring, "claimed", noting)
    run(specs[:1], Resources(torch.device("cpu")))
    (score,) = read_base_scores(study)
    (study / "base" / f"{score.key}.json").unlink()
    with claimed(claims[0]):
        assert run(specs[1:2], Resources(torch.device("cpu")))[1].step == 2
    assert read_base_scores(study) == []
    run(specs[2:], Resources(torch.device("cpu")))
    (again,) = read_base_scores(study)
    assert (again.key, again.heldout_loss_nats_per_token) == (score.key, score.heldout_loss_nats_per_token)


@pytest.mark.parametrize("size", [1, 2])
def test_trials_that_turn_out_to_train_one_at_a_time_are_not_measured_alone(
    make_spec: SpecFactory, measured: list[int], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """One of them is, for what optimizers hold; of those that share a pass each layout is."""
    monkeypatch.setattr(capacity, "pays_to_measure", lambda num_left, _: num_left == 4)  # of two trials of two steps
    monkeypatch.setattr(capacity, "measure_fastest_size", lambda *_: size)
    specs = [make_spec(number, *SHORT, change) for number, change in enumerate(("adapter.rank=2", "adapter.rank=16"))]
    records = run(specs, Resources(torch.device("cpu")))
    assert measured == ([0] if size == 1 else [0, 1])
    assert [record.solo is None for record in records.values()] == [size == 1] * 2
    assert [record.cohort for record in records.values()] == ([[0], [1]] if size == 1 else [[0, 1], [0, 1]])


def test_short_trials_train_one_at_a_time_without_a_measurement(make_spec: SpecFactory, measured: list[int]) -> None:
    """Which way is faster would take longer to find out than they train."""
    records = run([make_spec(number, *SHORT) for number in range(2)], Resources(torch.device("cpu")))
    assert measured == []
    assert [(record.cohort, "profile" in record.phases) for record in records.values()] == [([0], False), ([1], False)]
