"""A trial that a person stops ends after the step that it is at; the others of its cohort end as if it had gone on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import Status, TrialRecord
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources
from tests.trials import SpecFactory, no_words, run_alone

Observe = Callable[[int, int, dict[str, float]], None]
SHORT = ("quantization=none", "evaluation=none", "training.max_steps=8")


def make_cohort(make_spec: SpecFactory, *more: str) -> list[TrialSpec]:
    ranks = (2, 4, 2, 8)
    return [make_spec(number, *SHORT, *more, f"adapter.rank={rank}") for number, rank in enumerate(ranks)]


def run(specs: list[TrialSpec], resources: Resources, observe: Observe = lambda *_: None) -> dict[int, TrialRecord]:
    resources.cohort_size = len(specs)
    return {record.number: record for record in run_cohort(specs, resources, observe, no_words, list)}


def weights(spec: TrialSpec) -> dict[str, Any]:
    return dict(load_file(spec.folder / "adapter" / "adapter_model.safetensors"))


def stop_at(resources: Resources, number: int, step: int) -> Observe:
    """Presses the button while the trial is at `step`, as the worker's thread does."""

    def observe(trial: int, at: int, values: dict[str, float]) -> None:
        if (trial, at) == (number, step) and "train_loss" in values:
            resources.stopping.add(number)

    return observe


def test_a_stopped_trial_ends_within_a_step_and_the_others_to_the_last_bit_as_without_a_stop(
    make_spec: SpecFactory, resources: Resources, tmp_path: Path
) -> None:
    more = ("training.heldout_interval=2", "adapter.dropout=0.1")
    calm = make_cohort(make_spec, *more)
    undisturbed = run(calm, resources)
    kept = {spec.number: weights(spec) for spec in calm}
    records = run(calm, resources, stop_at(resources, 1, 3))
    stopped = records[1]
    assert (stopped.status, stopped.step) == (Status.STOPPED, 3)  # the observation comes at the end of a step
    assert stopped.reason == "by hand after 3 of 8 steps"
    assert (stopped.scores, stopped.heldout_loss_nats_per_token) == ({}, None)
    assert stopped.losses == undisturbed[1].losses[:3]
    assert not (calm[1].folder / "checkpoint.pt").exists()
    for number in (0, 2, 3):
        ours, theirs = records[number], undisturbed[number]
        assert ours.status is Status.FINISHED
        assert ours.losses == theirs.losses
        assert ours.heldout_losses == theirs.heldout_losses
        assert ours.heldout_loss_nats_per_token == theirs.heldout_loss_nats_per_token
        ours_of, theirs_of = weights(calm[number]), kept[number]
        assert ours_of.keys() == theirs_of.keys()
        assert all(np.array_equal(ours_of[name], theirs_of[name]) for name in ours_of)


@pytest.mark.parametrize("method", ["lora", "norms"])
def test_a_trial_alone_ends_and_the_next_one_is_as_ever(
    method: str, make_spec: SpecFactory, resources: Resources
) -> None:
    options = (*SHORT, f"adapter={method}")
    undisturbed = run_alone(make_spec(1, *options), resources)
    stopped = run_alone(make_spec(0, *options), resources, stop_at(resources, 0, 2))
    assert (stopped.status, stopped.step) == (Status.STOPPED, 2)
    again = run_alone(make_spec(1, *options), resources)
    assert again.losses == undisturbed.losses
    assert again.heldout_loss_nats_per_token == undisturbed.heldout_loss_nats_per_token


def test_a_trial_that_was_not_loaded_yet_is_not_loaded(make_spec: SpecFactory, resources: Resources) -> None:
    resources.stopping.add(1)
    records = run(make_cohort(make_spec), resources)
    assert (records[1].status, records[1].reason) == (Status.STOPPED, "by hand, before it was loaded")
    assert (records[1].phases, records[1].step) == ({}, None)
    assert [records[number].status for number in (0, 2, 3)] == [Status.FINISHED] * 3


def test_scoring_that_nobody_wants_ends_at_the_next_batch(make_spec: SpecFactory, resources: Resources) -> None:
    options = ("quantization=none", "training.max_steps=2", "evaluation.tasks=[tiny_addition_choice]")
    forwards: list[str] = []

    def tell(what: str, trials: object, count: str = "", steps: object = ()) -> None:
        if what == "scoring" and "of 6 answers" not in count:
            forwards.append(count)
            resources.stopping.add(0)

    resources.tell = tell
    stopped = run_alone(make_spec(0, *options), resources)
    assert (stopped.status, stopped.step, stopped.phase) == (Status.STOPPED, 2, "evaluate")
    assert stopped.scores == {}
    assert forwards == ["held-out loss"]
    assert (make_spec(0).folder / "traceback.txt").exists() is False
    again = run_alone(make_spec(1, *options), resources)
    assert again.status is Status.FINISHED
    assert list(again.scores) == ["tiny_addition_choice"]


def test_scoring_that_others_share_goes_on_and_the_stopped_trial_is_marked(
    make_spec: SpecFactory, resources: Resources
) -> None:
    options = ("quantization=none", "training.max_steps=2", "evaluation.tasks=[tiny_addition_choice]")
    specs = [make_spec(number, *options) for number in (0, 1)]

    def tell(what: str, *_: object, **__: object) -> None:
        if what == "scoring":
            resources.stopping.add(0)

    resources.tell = tell
    records = run(specs, resources)
    assert (records[0].status, records[1].status) == (Status.STOPPED, Status.FINISHED)
    alone = run_alone(make_spec(2, *options), resources)
    assert records[1].scores == alone.scores
