"""What fails once in a cohort: the others stand on their own base, and what is done again counts once."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors import SafetensorError

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.evaluation.heldout import HeldoutLosses
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import StoreError
from sweeplab.runtime.process_group import ONE_PROCESS
from sweeplab.training import checkpoints, fit, module
from sweeplab.training.attached_cohort import AttachedCohort
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial import beginning, lifecycle, scoring
from sweeplab.trial.lifecycle import Cohort, run_cohort
from sweeplab.trial.resources import Resources

SpecFactory = Callable[..., TrialSpec]
SHORT = (
    "evaluation=none",
    "quantization=none",
    "training.max_length=32",
    "training.max_steps=6",
    "training.log_interval=3",
    "training.heldout_interval=2",
)
SLOW = pytest.mark.slow
NO_ROOM = torch.OutOfMemoryError("no room, made up")


def outcome(record: TrialRecord) -> dict[str, Any]:
    return {
        "status": record.status,
        "losses": [(point.step, point.loss) for point in record.losses],
        "heldout": [(point.step, point.loss) for point in record.heldout_losses],
        "tokens": record.num_train_tokens,
    }


@pytest.fixture
def make_spec(make_spec: SpecFactory, tmp_path: Path) -> SpecFactory:
    """Trials of few examples, so that held-out losses take no time."""
    path = tmp_path / "few.json"
    path.write_text(json.dumps([{"instruction": f"Say {n}.", "output": "ab" * (1 + n % 5)} for n in range(40)]))
    few = ("data=json", f"data.path={path}", "data.style=plain", "data.num_examples=null")
    return lambda number, *overrides: make_spec(number, *few, *overrides)


def begun(make_spec: SpecFactory, count: int) -> tuple[Cohort, dict[int, TrialRecord]]:
    """A cohort of trials of other ranks, and the records of those that could not begin."""
    cohort, failed = Cohort(Resources(torch.device("cpu")), lambda *_: None, lambda _: None, count), {}
    for number in range(count):
        record = cohort.admit(make_spec(number, *SHORT, f"adapter.rank={4 * (number + 1)}", "training.accumulation=2"))
        if record is not None:
            failed[number] = record
    return cohort, failed


def through(cohort: Cohort) -> dict[int, dict[str, Any]]:
    records = {}
    while cohort.trials:
        for record in cohort.advance():
            records[record.number] = outcome(record)
    return records


@pytest.fixture(scope="module")
def kept() -> dict[int, dict[int, dict[str, Any]]]:
    return {}


@pytest.fixture
def undisturbed(
    make_spec: SpecFactory, kept: dict[int, dict[int, dict[str, Any]]]
) -> Callable[[int], dict[int, dict[str, Any]]]:
    """What so many trials come to where nothing fails."""

    def made(count: int) -> dict[int, dict[str, Any]]:
        if count not in kept:
            kept[count] = through(begun(make_spec, count)[0])
        return kept[count]

    return made


def once(where: Any, name: str, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Has `name` find no room at its call number `call`, from 1."""
    plain, calls = getattr(where, name), [0]

    def failing(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise NO_ROOM
        return plain(*given, **named)

    monkeypatch.setattr(where, name, failing)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        pytest.param(lifecycle, "why_own_batches", id="in its slot"),
        pytest.param(beginning, "describe_adapter_layers", id="on the base"),
    ],
)
def test_a_trial_that_cannot_begin_leaves_the_others_on_one_base(
    make_spec: SpecFactory,
    undisturbed: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
) -> None:
    expected = undisturbed(3)
    once(where, name, monkeypatch, call=2)
    cohort, failed = begun(make_spec, 3)
    assert {number: record.status for number, record in failed.items()} == {1: Status.OUT_OF_MEMORY}
    assert len({id(run.base.model) for run in cohort.trials}) == 1
    assert cohort.trials[0].base is cohort.resources.base
    found = through(cohort)
    for number in (0, 2):
        assert [step for step, _ in found[number]["heldout"]] == [2, 4, 6]
        for kind in ("losses", "heldout"):
            for (_, loss), (_, other) in zip(found[number][kind], expected[number][kind], strict=True):
                assert loss == pytest.approx(other, abs=5e-6)


@pytest.mark.parametrize(
    ("where", "name", "call"),
    [
        pytest.param(module, "compute_window_shares", 4, id="in a micro-batch"),
        # slow: two more moments, beside the earliest and the last one
        pytest.param(RunningTrial, "clip_gradients", 2, id="between the gradients and the step", marks=SLOW),
        pytest.param(fit, "measure_heldout_losses", 4, id="in a held-out loss between steps", marks=SLOW),
        pytest.param(scoring, "save_trained_weights", 1, id="in the evaluation"),
    ],
)
def test_what_is_done_again_counts_once(
    make_spec: SpecFactory,
    undisturbed: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    call: int,
) -> None:
    expected = undisturbed(2)
    cohort, _ = begun(make_spec, 2)
    once(where, name, monkeypatch, call)
    found = through(cohort)
    for number in (0, 1):
        assert found[number]["status"] is Status.FINISHED
        assert found[number]["tokens"] == expected[number]["tokens"]
        for kind in ("losses", "heldout"):
            assert [step for step, _ in found[number][kind]] == [step for step, _ in expected[number][kind]]
            for (_, loss), (_, other) in zip(found[number][kind], expected[number][kind], strict=True):
                assert loss == pytest.approx(other, abs=5e-6)


@pytest.mark.parametrize("keeps_checkpoint", [False, True], ids=["from the start", "from a checkpoint"])
def test_a_trial_whose_step_was_half_taken_goes_back_to_what_is_whole(
    make_spec: SpecFactory,
    undisturbed: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
    keeps_checkpoint: bool,
) -> None:
    """Some of its weights have changed; those of the others have not, or all of them."""
    expected = undisturbed(2)
    cohort, _ = begun(make_spec, 2)
    cohort.resources.checkpoint_seconds = 0 if keeps_checkpoint else None
    half = cohort.trials[1]
    step, begun_at = half.scheduler.step, []

    def fail_at_step_4() -> None:
        begun_at.append(half.step)
        if half.step == 4:
            raise NO_ROOM
        step()

    monkeypatch.setattr(half.scheduler, "step", fail_at_step_4)
    found = through(cohort)
    assert begun_at == [0, 1, 2, 3, 4], "it fails once; the trial that takes its place goes on from before"
    for number in (0, 1):
        assert found[number]["status"] is Status.FINISHED
        assert found[number]["tokens"] == expected[number]["tokens"]
        for kind in ("losses", "heldout"):
            assert [step for step, _ in found[number][kind]] == [step for step, _ in expected[number][kind]]
            for (_, loss), (_, other) in zip(found[number][kind], expected[number][kind], strict=True):
                assert loss == pytest.approx(other, abs=5e-6)


def test_a_rung_that_failed_is_measured_when_training_goes_on(
    make_spec: SpecFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of six steps are taken by one trial, which is at a rung, and three by the other one."""
    cohort, _ = begun(make_spec, 2)
    for trial, step in zip(cohort.trials, (2, 3), strict=True):
        trial.step = step
    asked: list[list[int]] = []
    monkeypatch.setattr(fit, "measure_trial_losses", lambda *_: HeldoutLosses([1.0], [1]))
    watch = fit._Watch(
        AttachedCohort(cohort.trials, None),
        torch.device("cpu"),
        ONE_PROCESS,
        None,
        lambda _, due: asked.append([one.step for one in due]),
    )
    watch.measure()
    assert asked == [[2]]
    assert [[point.step for point in one.heldout_losses] for one in cohort.trials] == [[2], []]


def no_room(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/of/a/library.arrow")


def no_room_for_tensors(*_: Any) -> Any:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("home", "name", "fails", "where"),
    [
        pytest.param(os, "fsync", no_room, "checkpoint.pt", id="checkpoint"),
        pytest.param(scoring, "save_adapter", no_room_for_tensors, "adapter", id="adapter"),
        pytest.param(scoring, "measure_trial_losses", no_room, "library.arrow", id="a library's own file"),
    ],
)
def test_a_full_disk_ends_the_study_and_fails_no_trial(
    home: Any, name: str, fails: Any, where: str, make_spec: SpecFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Resources(torch.device("cpu"), cohort_size=1, checkpoint_seconds=0)
    specs = [make_spec(number, *SHORT[:-1], "training.max_steps=2") for number in range(2)]
    records = run_cohort(specs, own, lambda *_: None, lambda _: None, list)
    assert next(records).status is Status.FINISHED
    monkeypatch.setattr(home, name, fails)
    with pytest.raises(StoreError, match=rf"{where} cannot be written: .*No space left .*; free space or choose anoth"):
        next(records)


def test_memory_that_cublas_lacks_does_not_set_a_checkpoint_aside(
    make_spec: SpecFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, _ = begun(make_spec, 1)
    (trial,) = cohort.trials
    checkpoints.write_checkpoint(trial)
    error = RuntimeError("CUDA error: out of memory")
    monkeypatch.setattr(torch, "load", Mock(side_effect=error))
    with pytest.raises(torch.OutOfMemoryError):
        cohort.continue_from_checkpoint(trial)
    assert trial.checkpoint_path.exists()
