"""Whole trials of a few steps: repeatable, independent of their neighbours, and honest where they fail."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.tokens import IGNORED
from sweeplab.models.base import Base
from sweeplab.models.quantization.schemes import measure_storage
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import read_records, write_record
from sweeplab.runtime.errors import StudyRefused
from sweeplab.training.start import count_steps
from sweeplab.trial import lifecycle as trial
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources
from tests.configs import optimizer_of, workers_of
from tests.trials import no_words, run_alone

Told = list[tuple[int, int, dict[str, float]]]
SpecFactory = Callable[..., TrialSpec]
QUIET = "evaluation=none"
OVERFLOWING = ("optimizer=adamw", "optimizer.lr=1e38", "schedule.warmup_steps=0")
DIVERGING = ("optimizer=sgd", "optimizer.lr=1e30", "training.gradient_clip=null", "schedule.warmup_steps=0")


def ignore(number: int, step: int, values: dict[str, float]) -> None:
    pass


def run(spec: TrialSpec, resources: Resources | None = None) -> TrialRecord:
    return run_alone(spec, resources or Resources(torch.device("cpu")))


def outcome(spec: TrialSpec, record: TrialRecord) -> dict[str, Any]:
    """Everything of a record that a rerun must repeat bit for bit, with the adapter's weights and every answer."""
    kept = asdict(record)
    for name in ("number", "cohort", "solo", "phases", "tokens_per_second", "provenance"):
        del kept[name]
    adapter = spec.folder / "adapter" / "adapter_model.safetensors"
    items = spec.folder / "items.jsonl"
    return kept | {
        "weights": {name: tensor.tolist() for name, tensor in load_file(adapter).items()} if adapter.exists() else None,
        "items": items.read_text() if items.exists() else None,
    }


def test_a_trial_on_a_mixed_base_leaves_it_for_the_next(make_spec: SpecFactory, resources: Resources) -> None:
    first, again, alone = (
        run_alone(make_spec(number, "quantization=mixed", "adapter.lora_mlp=true", "evaluation=none"), used)
        for number, used in enumerate((resources, resources, Resources(resources.device)))
    )
    for record in (first, again, alone):
        assert record.status is Status.FINISHED, record.reason
        assert record.num_total_params == 885_888
        assert record.base_bits_per_param == pytest.approx(4.943794249385927)
        assert record.losses == first.losses
        assert record.heldout_loss_nats_per_token == first.heldout_loss_nats_per_token


def test_a_trial_from_configuration_to_record(make_spec: SpecFactory, resources: Resources, nf4_base: Base) -> None:
    told: Told = []
    spec = make_spec(7, "adapter.rank=4", "training.heldout_interval=2", "quantization=nf4_dq")
    record = run_alone(spec, resources, lambda number, step, values: told.append((number, step, values)))
    assert (record.number, record.status, record.reason, record.phase, record.step) == (
        7,
        Status.FINISHED,
        None,
        None,
        4,
    )
    # query and value of four layers, 128 by 128: 4 * 2 * 4 * (128 + 128)
    assert (record.num_trainable_params, record.num_total_params) == (8192, 885_888)
    assert record.base_bits_per_param == measure_storage(nf4_base.model).bits_per_param
    adapter = spec.folder / "adapter"
    files = [adapter / name for name in ("adapter_model.safetensors", "adapter_config.json")]
    assert record.adapter_bytes == sum(path.stat().st_size for path in files)
    assert [point.step for point in record.losses] == [1, 2, 3, 4]
    assert [point.step for point in record.heldout_losses] == [2, 4]
    assert record.heldout_losses[-1].loss == record.heldout_loss_nats_per_token
    assert record.losses[-1].loss < record.losses[0].loss
    assert record.num_train_tokens is not None
    assert record.tokens_per_second == pytest.approx(record.num_train_tokens / record.phases["train"].seconds)
    assert list(record.phases) == ["load", "train", "evaluate"]
    assert {task: score["exact_match"].num_items for task, score in record.scores.items() if "choice" not in task} == {
        "tiny_new_facts": 6,
        "tiny_old_facts": 6,
    }
    rows = [json.loads(line) for line in (spec.folder / "items.jsonl").read_text().splitlines()]
    assert len([row for row in rows if "task" in row]) == 4 * 6
    (losses,) = [row for row in rows if "sums" in row]
    assert math.fsum(losses["sums"]) / sum(losses["counts"]) == record.heldout_loss_nats_per_token
    assert {number for number, _, _ in told} == {7}
    assert [step for _, step, values in told if "train_loss" in values] == [1, 2, 3, 4]
    assert all(values["num_steps"] == 4 for _, _, values in told)
    write_record(spec.folder.parent.parent, record)
    stored = read_records(spec.folder.parent.parent)
    assert stored == [record]


def test_the_same_seed_repeats_bit_for_bit_and_another_differs(make_spec: SpecFactory) -> None:
    overrides = ("adapter.dropout=0.1", "quantization=nf4_dq")
    specs = [make_spec(0, *overrides, seed=3), make_spec(1, *overrides, seed=3), make_spec(2, *overrides, seed=4)]
    first, again, other = (outcome(spec, run(spec)) for spec in specs)
    assert again == first
    assert [point["loss"] for point in other["losses"]] != [point["loss"] for point in first["losses"]]
    assert other["weights"] != first["weights"]


def test_a_base_is_loaded_once_for_trials_that_share_it(make_spec: SpecFactory, resources: Resources) -> None:
    bases = []
    for number, quantization in enumerate(("none", "none", "nf4", "none")):
        run(make_spec(number, f"quantization={quantization}", f"adapter.rank={number + 1}", QUIET), resources)
        bases.append(resources.base)
    assert bases[0] is bases[1]
    assert len({id(base) for base in bases[1:]}) >= 2
    assert bases[2] is not bases[1]
    assert bases[3] is not bases[2]


@pytest.fixture(scope="module")
def undisturbed() -> list[dict[str, Any]]:
    """The outcome of a trial on a fresh resources, once it is known."""
    return []


class TestFailures:
    """What a trial that does not finish leaves, and that the next one on the same resources is as on a fresh one."""

    @pytest.fixture
    def same_as_fresh(self, make_spec: SpecFactory, undisturbed: list[dict[str, Any]]) -> Callable[[Resources], None]:
        if not undisturbed:
            spec = make_spec(91, "quantization=none", QUIET)
            undisturbed.append(outcome(spec, run(spec)))
        fresh = undisturbed[0]

        def check(resources: Resources) -> None:
            after = make_spec(90, "quantization=none", QUIET)
            assert outcome(after, run(after, resources)) == fresh

        return check

    def test_divergence_in_training(self, make_spec: SpecFactory, resources: Resources, same_as_fresh: Any) -> None:
        record = run(make_spec(0, "quantization=none", *DIVERGING), resources)
        assert (record.status, record.phase) == (Status.DIVERGED, "train")
        assert record.reason is not None
        assert record.reason.startswith("the training loss became ")
        assert record.step is not None
        assert record.reason.endswith(f"after {record.step} steps")
        assert 1 <= record.step < 4
        assert [point.step for point in record.losses] == list(range(1, record.step + 1))
        assert record.heldout_loss_nats_per_token is None
        assert (list(record.phases), record.scores) == (["load", "train"], {})
        same_as_fresh(resources)

    def test_divergence_at_the_last_step(
        self, make_spec: SpecFactory, resources: Resources, same_as_fresh: Any
    ) -> None:
        record = run(make_spec(0, "quantization=none", *OVERFLOWING, "training.max_steps=1"), resources)
        assert (record.status, record.phase, record.step) == (Status.DIVERGED, "evaluate", 1)
        assert record.reason is not None
        assert record.reason.startswith("the held-out loss became ")
        same_as_fresh(resources)

    def test_an_unknown_failure_keeps_its_traceback(
        self, make_spec: SpecFactory, resources: Resources, same_as_fresh: Any
    ) -> None:
        spec = make_spec(0, "quantization=none", "optimizer=sgd")
        sparse = optimizer_of({"_target_": "torch.optim.SparseAdam", "lr": 0.1})
        spec = replace(spec, config=spec.config.replaced(optimizer=sparse))
        record = run(spec, resources)
        assert (record.status, record.phase, record.step) == (Status.FAILED, "train", 0)
        assert record.reason is not None
        assert record.reason.startswith("RuntimeError: SparseAdam does not support dense gradients")
        kept = (spec.folder / "traceback.txt").read_text()
        assert kept.startswith("Traceback (most recent call last):")
        assert record.reason in kept
        assert TrialRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
        same_as_fresh(resources)

    def test_running_out_of_memory(
        self, make_spec: SpecFactory, resources: Resources, same_as_fresh: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fill(*_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore lines")

        with monkeypatch.context() as patched:
            patched.setattr(trial, "fit_until_one_ends", fill)
            record = run(make_spec(0, "quantization=none", QUIET), resources)
        assert (record.status, record.phase) == (Status.OUT_OF_MEMORY, "train")
        assert record.reason == "CUDA out of memory. Tried to allocate 9 GiB"
        same_as_fresh(resources)

    def test_a_setting_that_cannot_run_is_refused_and_the_next_one_runs(
        self, make_spec: SpecFactory, resources: Resources, same_as_fresh: Any
    ) -> None:
        record = run(make_spec(0, "quantization=none", "training.max_length=4"), resources)
        assert (record.status, record.phase) == (Status.REFUSED, "load")
        assert re.match(r"training.max_length=4 cuts off every response", str(record.reason))
        same_as_fresh(resources)

    def test_data_that_changed_under_their_name_stop_the_study(
        self, make_spec: SpecFactory, resources: Resources
    ) -> None:
        spec = make_spec(0, "quantization=none", "training.max_length=4")
        changed = replace(make_spec(0, "quantization=none"), fingerprints={"data_fingerprint": "0" * 64})
        assert run(replace(spec, fingerprints={"data_fingerprint": "0" * 64}), resources).status is Status.REFUSED
        with pytest.raises(StudyRefused, match=rf"^data.name=tiny_facts has changed .* \(fingerprint {'0' * 64}, now "):
            run(changed, resources)

    def test_a_failure_does_not_take_the_cohort_with_it(self, make_spec: SpecFactory, resources: Resources) -> None:
        specs = [make_spec(0, "quantization=none", QUIET, *DIVERGING), make_spec(1, "quantization=none", QUIET)]
        statuses = [record.status for record in run_cohort(specs, resources, ignore, no_words, list)]
        assert statuses == [Status.DIVERGED, Status.FINISHED]


def test_full_finetuning_trains_every_weight_and_leaves_nothing_behind(
    make_spec: SpecFactory, resources: Resources
) -> None:
    full = make_spec(0, "adapter=none", "quantization=none", "training.gradient_checkpointing=true", QUIET)
    before, after = make_spec(1, "quantization=none", QUIET), make_spec(2, "quantization=none", QUIET)
    expected = outcome(before, run(before, resources))
    base = resources.base
    assert base is not None
    weights = {name: weight.clone() for name, weight in base.model.named_parameters()}
    record = run(full, resources)
    assert (record.status, record.adapter_bytes) == (Status.FINISHED, None)
    assert record.num_trainable_params == record.num_total_params == 885_888
    assert not any(torch.equal(weight, weights[name]) for name, weight in base.model.named_parameters())
    assert not (full.folder / "adapter").exists()
    assert outcome(after, run(after, resources)) == expected


@pytest.mark.parametrize(("max_steps", "epochs", "expected"), [(None, 3, 30), (7, 3, 7), (50, 1, 50)])
def test_steps_are_asked_for_or_follow_from_epochs(
    compose_trial: Any, max_steps: int | None, epochs: int, expected: int
) -> None:
    training = compose_trial(f"training.max_steps={max_steps or 'null'}", f"training.epochs={epochs}").training
    assert count_steps(training, 10) == expected


def test_a_bench_opens_with_the_asked_threads() -> None:
    before = torch.get_num_threads()
    try:
        assert Resources.open(workers_of(num_threads=2)).device == torch.device("cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_real_model_and_real_data(make_spec: SpecFactory, resources: Resources, shared_data: Path) -> None:
    model, path = shared_data / "stories260K", shared_data / "instruct" / "instruction-data.json"
    overrides = ("model=local", f"model.path='{model}'", "data=json", f"data.path='{path}'", "quantization=none", QUIET)
    spec = make_spec(
        0,
        *overrides,
        "training.max_steps=3",
        "data.heldout_fraction=0.03",
        "training.max_length=512",
    )
    record = run(spec, resources)
    assert (record.status, record.step) == (Status.FINISHED, 3), record.reason
    assert all(0 < point.loss < 20 for point in record.losses)
    assert record.heldout_loss_nats_per_token == pytest.approx(heldout_by_peft(spec, model), rel=1e-5)


@torch.no_grad()
def heldout_by_peft(spec: TrialSpec, folder: Path) -> float:
    """The saved adapter on a freshly loaded model; transformers' loss of each example, weighted by its tokens."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sweeplab.data.sources import load_splits
    from sweeplab.data.tokens import tokenize_examples

    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, str(spec.folder / "adapter")).eval()
    heldout = load_splits(spec.config.data).heldout
    total, count = 0.0, 0
    for tokens in tokenize_examples(heldout, AutoTokenizer.from_pretrained(folder), "alpaca", True, 512).examples:
        num_targets = sum(label != IGNORED for label in tokens.labels[1:].tolist())
        loss = model(input_ids=tokens.ids[None], labels=tokens.labels[None]).loss
        total, count = total + loss.item() * num_targets, count + num_targets
    return total / count
