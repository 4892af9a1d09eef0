"""The weights of the least held-out loss, and a training that ends by patience: in trials, cohorts and resumed ones."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from sweeplab.config.compatible import check_trial
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import HeldoutPoint, Status, TrialRecord
from sweeplab.runtime.errors import ConfigError
from sweeplab.training.kept import find_least
from sweeplab.trial import scoring
from sweeplab.trial.lifecycle import Cohort, run_cohort
from sweeplab.trial.resources import Resources
from tests.trials import Compose, SpecFactory, no_words, run_alone

STEPS = (
    "quantization=none", "evaluation=none", "training.max_steps=10", "training.heldout_interval=2", "schedule=constant",
    "schedule.warmup_steps=0", "optimizer.lr=0.02", "training.max_length=32", "training.gradient_clip=null",
)  # fmt: skip
BEST = "training.keep=best"
SCORED = ("evaluation=default", "evaluation.tasks=[tiny_addition_choice]", "evaluation.limit=6")
METHODS = {
    "in a slot": (),
    "schedule-free": ("optimizer=schedule_free", "optimizer.lr=0.02"),
    "DoRA": ("adapter=dora", "optimizer.lr=0.05"),
    "all weights": ("adapter=none", "optimizer.lr=0.003"),
}


class Stopped(BaseException):
    """As if the process had been killed."""


def ignore(number: int, step: int, values: dict[str, float]) -> None:
    pass


@pytest.fixture
def make_spec(make_spec: SpecFactory, tmp_path: Path) -> SpecFactory:
    """Trials whose held-out loss soon rises: what they learn of one set of answers is wrong of the other."""
    ask = "What is {}?"
    for name, answer in (("train", "yes"), ("heldout", "no")):
        rows = [{"instruction": ask.format(number), "output": answer} for number in range(6)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    files = (
        "data=json", f"data.path={tmp_path / 'train.json'}", f"data.heldout_path={tmp_path / 'heldout.json'}",
        "data.style=plain", "data.num_examples=null",
    )  # fmt: skip
    return lambda number, *overrides, **named: make_spec(number, *files, *STEPS, *overrides, **named)


def read_weights(spec: TrialSpec) -> dict[str, Tensor]:
    return load_file(spec.folder / "adapter" / "adapter_model.safetensors")


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name


def curve(record: TrialRecord) -> dict[int, float]:
    return {point.step: point.loss for point in record.heldout_losses}


def find_best(record: TrialRecord) -> int:
    losses = curve(record)
    best = min(losses, key=losses.__getitem__)
    assert 2 <= best < 10, losses  # else nothing is shown
    return best


@pytest.mark.parametrize("method", [one for one in METHODS if one != "all weights"])
def test_kept_weights_are_those_of_a_run_that_stops_there(make_spec: SpecFactory, method: str) -> None:
    """Bit for bit, with its held-out loss, items and scores, though the training went on."""
    scored = (*METHODS[method], *(SCORED if method == "in a slot" else ()))
    ours, last = (make_spec(number, *scored, *more) for number, more in enumerate(([BEST], [])))
    kept, whole = (run_alone(spec, Resources(torch.device("cpu"))) for spec in (ours, last))
    assert kept.status is Status.FINISHED, kept.reason
    best = find_best(whole)
    assert (kept.kept_step, kept.step, whole.kept_step) == (best, 10, None)
    assert (curve(kept), kept.losses) == (curve(whole), whole.losses)
    short = make_spec(2, *scored, f"training.max_steps={best}")
    stopped = run_alone(short, Resources(torch.device("cpu")))
    assert_same_bits(read_weights(ours), read_weights(short))
    assert kept.heldout_loss_nats_per_token == stopped.heldout_loss_nats_per_token == min(curve(whole).values())
    assert kept.scores == stopped.scores
    assert (ours.folder / "items.jsonl").read_text() == (short.folder / "items.jsonl").read_text()
    assert TrialRecord.from_dict(json.loads(json.dumps(kept.to_dict()))) == kept
    assert "kept_step" not in whole.to_dict()


def test_all_weights_are_scored_as_they_were_at_the_best_step(make_spec: SpecFactory) -> None:
    method = METHODS["all weights"]
    whole, kept = (run_alone(make_spec(number, *method, *more), Resources(torch.device("cpu")))
                   for number, more in enumerate(([], [BEST])))  # fmt: skip
    assert kept.kept_step == find_best(whole)
    assert kept.heldout_loss_nats_per_token == min(curve(whole).values())


def test_where_the_last_step_is_the_best_it_is_kept(make_spec: SpecFactory) -> None:
    ours, last = (make_spec(number, "optimizer.lr=1e-4", *more) for number, more in enumerate(([BEST], [])))
    kept, whole = (run_alone(spec, Resources(torch.device("cpu"))) for spec in (ours, last))
    assert kept.kept_step == 10
    assert_same_bits(read_weights(ours), read_weights(last))
    assert kept.heldout_loss_nats_per_token == whole.heldout_loss_nats_per_token


def test_each_trial_of_a_cohort_keeps_its_own(make_spec: SpecFactory) -> None:
    """Weights read from the slots at each held-out loss are those in the files, bit for bit."""
    seen: dict[tuple[int, int], tuple[float, dict[str, Tensor]]] = {}

    def observe(number: int, step: int, values: dict[str, float]) -> None:
        if "heldout_loss" in values:
            (trial,) = (one for one in cohort.trials if one.spec.number == number)
            assert trial.slot is not None
            pairs = {name: (a.clone(), b.clone()) for name, (a, b) in trial.slot.weights().items()}
            flat = {
                f"{name}.lora_{part}": one for name, pair in pairs.items() for part, one in zip("AB", pair, strict=True)
            }
            seen[number, step] = values["heldout_loss"], flat

    cohort = Cohort(Resources(torch.device("cpu")), observe, no_words, 3)
    rates = ("optimizer.lr=0.1", "optimizer.lr=0.02", "optimizer.lr=1e-4")
    specs = [make_spec(number, rate, BEST, f"adapter.rank={2 + number}") for number, rate in enumerate(rates)]
    for spec in specs:
        assert cohort.admit(spec) is None
    records: list[TrialRecord] = []
    while cohort.trials:
        records += cohort.advance()
    assert [len(one.cohort) for one in records] == [3, 3, 3]
    assert len({one.kept_step for one in records}) > 1
    for record in records:
        best = min((loss, step) for (number, step), (loss, _) in seen.items() if number == record.number)
        assert (record.heldout_loss_nats_per_token, record.kept_step) == best
        saved = {
            name.removeprefix("base_model.model.").removesuffix(".weight"): weight
            for name, weight in read_weights(specs[record.number]).items()
        }
        assert_same_bits(saved, seen[record.number, best[1]][1])


@pytest.mark.parametrize("method", ["in a slot", pytest.param("schedule-free", marks=pytest.mark.slow)])  # slow: a twin
def test_killed_at_every_moment_it_ends_as_undisturbed(
    make_spec: SpecFactory, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends at the first thing that is told, the second ..., and where the adapter is saved."""
    asked = ("optimizer.lr=0.1", *METHODS[method], BEST, "training.patience=3")
    spec, ours = make_spec(0, *asked), make_spec(1, *asked)
    whole = run_alone(spec, Resources(torch.device("cpu")))
    told, allowed, save = 0, 0, scoring.save_trained_weights

    def observe(number: int, step: int, values: dict[str, float]) -> None:
        nonlocal told
        told += 1
        if told > allowed:
            raise Stopped

    def save_later(trial: Any) -> None:
        if not list(ours.folder.glob("killed")):
            (ours.folder / "killed").touch()
            raise Stopped
        save(trial)

    monkeypatch.setattr(scoring, "save_trained_weights", save_later)
    kills, record = 0, None
    while record is None:
        told = 0
        try:
            record = run_alone(ours, Resources(torch.device("cpu"), checkpoint_seconds=0), observe)
        except Stopped:
            kills, allowed = kills + 1, allowed + 1
    assert kills > 5
    assert (record.step, record.kept_step, record.reason) == (whole.step, whole.kept_step, whole.reason)
    assert (curve(record), record.losses) == (curve(whole), whole.losses)
    assert_same_bits(read_weights(ours), read_weights(spec))


def test_an_evaluation_that_is_tried_again_has_the_kept_weights(
    make_spec: SpecFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out after the weights of two trials were put in place; each is evaluated by itself then.

    A schedule-free optimizer has replaced the weights by those that it would go on with.
    """
    save, calls = scoring.save_trained_weights, list[int]()

    def save_at_second(trial: Any) -> None:
        calls.append(trial.spec.number)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no room, made up")
        save(trial)

    monkeypatch.setattr(scoring, "save_trained_weights", save_at_second)
    specs = [make_spec(n, *METHODS["schedule-free"], BEST, f"adapter.rank={2 + n}") for n in range(4)]
    resources = Resources(torch.device("cpu"), cohort_size=2)
    failed = list(run_cohort(specs[:2], resources, ignore, lambda text: None, list))
    plain = [TrialSpec(one.number + 2, 0, {}, one.config, specs[one.number + 2].folder) for one in specs[:2]]
    undisturbed = list(run_cohort(plain, Resources(torch.device("cpu"), cohort_size=2), ignore, no_words, list))
    assert calls[0] == calls[1]
    for one, other, before, after in zip(failed, undisturbed, specs, plain, strict=False):
        assert one.kept_step == other.kept_step == find_best(one)
        assert curve(one) == curve(other)
        assert_same_bits(read_weights(before), read_weights(after))


def test_patience_counts_as_the_trainer_of_transformers_does(tmp_path: Path) -> None:
    """On random curves with equal losses among them."""
    dice, arguments = random.Random(0), TrainingArguments(str(tmp_path), metric_for_best_model="loss", use_cpu=True)
    arguments.greater_is_better, arguments.load_best_model_at_end = False, True
    for _ in range(200):
        patience, losses = dice.randint(1, 4), [dice.randint(0, 6) / 2 for _ in range(12)]
        theirs, state, control = EarlyStoppingCallback(patience), TrainerState(), TrainerControl()
        points: list[HeldoutPoint] = []
        for step, loss in enumerate(losses):
            points.append(HeldoutPoint(step, loss))
            theirs.on_evaluate(arguments, state, control, {"eval_loss": loss})
            if state.best_metric is None or loss < state.best_metric:
                state.best_metric, state.best_global_step = loss, step
            assert find_least(points) == state.best_global_step
            assert (len(points) - 1 - find_least(points) >= patience) == control.should_training_stop
            if control.should_training_stop:
                break


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_trial_ends_by_patience_and_the_rest_of_its_schedule_stays(make_spec: SpecFactory, keep: str) -> None:
    asked = ("schedule=cosine", "optimizer.lr=0.1", f"training.keep={keep}")
    whole = run_alone(make_spec(0, *asked, "training.max_steps=20"), Resources(torch.device("cpu")))
    ours = make_spec(1, *asked, "training.max_steps=20", "training.patience=2")
    found = run_alone(ours, Resources(torch.device("cpu")))
    losses = list(curve(whole).values())
    end = next(end for end in range(3, len(losses)) if min(losses[end - 2 : end]) >= min(losses[: end - 2]))
    assert found.status is Status.FINISHED
    assert found.step == 2 * end < 20
    assert curve(found) == {step: loss for step, loss in curve(whole).items() if step <= found.step}
    assert found.losses == whole.losses[: found.step]  # with their rates, those of 20 steps
    best = min(curve(found), key=curve(found).__getitem__)
    assert found.reason == (
        f"ended after {found.step} of 20 steps: no held-out loss below that of step {best} in "
        "training.patience=2 evaluations"
    )
    at = best if keep == "best" else found.step
    assert found.heldout_loss_nats_per_token == curve(found)[at]
    assert found.kept_step == (best if keep == "best" else None)
    assert (ours.folder / "adapter").exists()


def test_one_trial_of_a_cohort_ends_by_patience_and_the_others_go_on(make_spec: SpecFactory) -> None:
    patience = "training.patience=2"
    specs = [make_spec(0, "optimizer.lr=0.1", patience), make_spec(1, "optimizer.lr=1e-4", patience)]
    together = list(run_cohort(specs, Resources(torch.device("cpu"), cohort_size=2), ignore, no_words, list))
    assert [(one.number, one.status) for one in together] == [(0, Status.FINISHED), (1, Status.FINISHED)]
    assert together[0].step is not None
    assert together[0].step < 10
    assert together[1].step == 10
    assert together[1].reason is None
    for number, rate in enumerate(("0.1", "1e-4")):
        alone = run_alone(make_spec(10 + number, f"optimizer.lr={rate}", patience), Resources(torch.device("cpu")))
        assert (alone.step, alone.reason) == (together[number].step, together[number].reason)
        assert list(curve(alone).values()) == pytest.approx(list(curve(together[number]).values()), abs=1e-5)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((BEST,), r"training\.keep needs held-out losses in the middle .*is null, got best; give a share .*=0\.1"),
        (("training.patience=3",), r"training\.patience needs held-out losses .*, got 3; give"),
        (
            (BEST, "training.heldout_interval=80", "training.max_steps=80"),
            r"training\.keep has no effect where held-out loss 1 of .*=80 is not before training\.max_steps=80, got",
        ),
        (
            ("training.patience=3", "training.heldout_interval=20", "training.max_steps=80"),
            r"training\.patience has no effect where held-out loss 4 of .*=20 is not before training\.max_steps=80",
        ),
        (
            ("training.patience=3", "training.heldout_interval=0.25"),
            r"held-out loss 4 of .*=0\.25 is not before the end",
        ),
    ],
)
def test_what_has_no_effect_is_refused(compose_trial: Compose, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_trial(compose_trial(*overrides))


def test_what_has_an_effect_is_not_refused(compose_trial: Compose) -> None:
    check_trial(compose_trial(BEST, "training.patience=2", "training.heldout_interval=20", "training.max_steps=80"))
    check_trial(compose_trial(BEST, "training.patience=9", "training.heldout_interval=20"))  # epochs decide
