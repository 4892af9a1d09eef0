"""Tasks scored in the middle of training: what is scored, that training does not notice, and that a resume keeps it."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sweeplab.config.compatible import check_trial
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import Status, TrialRecord, score_values
from sweeplab.runtime.errors import ConfigError
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources
from tests.trials import Compose, no_words, run_alone

SpecFactory = Callable[..., TrialSpec]
TASKS = "evaluation.tasks=[tiny_addition_choice,tiny_new_facts_choice]"
STEPS = ("quantization=none", "training.max_steps=6", "training.heldout_interval=2", "schedule=constant", TASKS)
AT_RUNGS = "evaluation.rung_tasks=[tiny_new_facts_choice]"
ALIKE = ("schedule.warmup_steps=0", "optimizer.lr=0.02", "evaluation.limit=24")


class Stopped(BaseException):
    """As if the process had been killed."""


def ignore(number: int, step: int, values: dict[str, float]) -> None:
    pass


def weights(spec: TrialSpec) -> dict[str, Tensor]:
    return load_file(spec.folder / "adapter" / "adapter_model.safetensors")


def rungs(record: TrialRecord) -> dict[int, dict[str, float]]:
    return {one.step: score_values(one.scores) for one in record.rung_scores}


# slow: LoRA, whose dropout has a generator of its own; DoRA's draws are the ones that could be disturbed
@pytest.mark.parametrize("method", [pytest.param("adapter.dropout=0.1", marks=pytest.mark.slow), "adapter=dora"])
def test_training_does_not_notice(make_spec: SpecFactory, method: str) -> None:
    """Weights, losses and scores are bit-equal with and without; DoRA draws its dropout from the common generator."""
    ours, theirs = (
        make_spec(number, *STEPS, method, "adapter.dropout=0.1", *more) for number, more in enumerate(([AT_RUNGS], []))
    )
    scored, plain = (run_alone(spec, Resources(torch.device("cpu"))) for spec in (ours, theirs))
    assert scored.status is Status.FINISHED, scored.reason
    assert list(rungs(scored)) == [2, 4]
    assert plain.rung_scores == []
    found, expected = weights(ours), weights(theirs)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    for name in ("losses", "heldout_losses", "scores"):
        assert getattr(scored, name) == getattr(plain, name)


def test_a_rung_scores_what_a_trial_of_so_many_steps_scores(make_spec: SpecFactory, resources: Resources) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    record = run_alone(
        make_spec(0, *STEPS, *ALIKE, AT_RUNGS), resources, lambda number, step, values: told.append((step, values))
    )
    short = run_alone(make_spec(1, *STEPS, *ALIKE, "training.max_steps=4"), resources)
    (task,) = {name for one in record.rung_scores for name in one.scores}
    assert task == "tiny_new_facts_choice"
    assert record.rung_scores[1].scores[task] == short.scores[task]
    mirrored = {step: values for step, values in told if f"scores/{task}/acc" in values}
    assert {step: values[f"scores/{task}/acc"] for step, values in mirrored.items()} == {
        **{step: values[f"scores/{task}/acc"] for step, values in rungs(record).items()},
        6: record.scores[task]["acc"].value,
    }
    assert TrialRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_trials_of_a_cohort_have_their_own(make_spec: SpecFactory) -> None:
    resources = Resources(torch.device("cpu"), cohort_size=2)
    asked = (*STEPS, AT_RUNGS, "evaluation.limit=24")
    specs = [make_spec(n, *asked, f"optimizer.lr={rate}") for n, rate in enumerate((1e-3, 0.03))]
    together = list(run_cohort(specs, resources, ignore, no_words, list))
    assert [len(one.cohort) for one in together] == [2, 2]
    alone = run_alone(make_spec(10, *asked, "optimizer.lr=0.03"), resources)
    assert list(rungs(together[0])) == list(rungs(together[1])) == [2, 4]
    for step, values in rungs(alone).items():
        assert rungs(together[1])[step] == pytest.approx(values, abs=1e-6)
    assert rungs(together[0]) != rungs(together[1])


def test_a_resumed_trial_has_each_rung_once(make_spec: SpecFactory) -> None:
    def stop_at_5(number: int, step: int, values: dict[str, float]) -> None:
        if step == 5:
            raise Stopped

    whole = run_alone(make_spec(0, *STEPS, AT_RUNGS), Resources(torch.device("cpu")))
    spec = make_spec(1, *STEPS, AT_RUNGS)
    with pytest.raises(Stopped):
        run_alone(spec, Resources(torch.device("cpu"), checkpoint_seconds=0), stop_at_5)
    assert (spec.folder / "checkpoint.pt").exists()
    told: list[int] = []
    resumed = run_alone(spec, Resources(torch.device("cpu")), lambda number, step, values: told.append(step))
    assert min(told) >= 4  # it went on from its checkpoint
    assert [asdict(one) for one in resumed.rung_scores] == [asdict(one) for one in whole.rung_scores]
    assert resumed.scores == whole.scores


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("evaluation.rung_tasks=[nowhere]", "training.heldout_interval=2"),
            "evaluation.rung_tasks is unknown, got 'nowhere'",
        ),
        (
            (AT_RUNGS, "training.heldout_interval=null"),
            "needs steps to be scored at, got training.heldout_interval=null",
        ),
    ],
)
def test_tasks_that_have_no_rung_are_refused(compose_trial: Compose, overrides: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_trial(compose_trial(TASKS, *overrides))
