"""Trials whose MLPs are experts in one tensor: what PEFT's own wrapper trains, and alone on the base."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Windows, collate_tokens
from sweeplab.models.base import _EMBEDDED as BASE
from sweeplab.records.record import Status, TrialRecord
from sweeplab.trial import capacity
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources
from tests.architectures import build_tiny_model
from tests.trial.test_lifecycle import QUIET, ignore, outcome
from tests.trials import no_words, run_alone

SpecFactory = Callable[..., TrialSpec]
PLAIN = ("optimizer=sgd", "optimizer.lr=0.5", "schedule=constant", "schedule.warmup_steps=0", QUIET)
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


class Stopped(BaseException):
    """The machine went off."""


@pytest.fixture
def mixtral(tmp_path: Path) -> Path:
    """A folder with four experts a layer; its tokenizer is the embedded base's."""
    folder, model = tmp_path / "base", build_tiny_model("mixtral")
    model.config.eos_token_id, model.config.pad_token_id = 1, 0
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    for path in BASE.glob("tokenizer*"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def make_moe(make_spec: SpecFactory, mixtral: Path) -> SpecFactory:
    base = ("model=local", f"model.path={mixtral}", "quantization=none", "adapter.alpha=12", *PLAIN)
    return lambda number, *overrides, **given: make_spec(number, *base, *overrides, **given)


def run(specs: list[TrialSpec], resources: Resources) -> dict[int, TrialRecord]:
    return {record.number: record for record in run_cohort(specs, resources, ignore, no_words, list)}


def train_by_hand(spec: TrialSpec, folder: Path, resources: Resources) -> tuple[PeftModel, list[float]]:
    """A plain loop over the trial's rows with PEFT's own configuration; the losses of its steps."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).requires_grad_(False)
    config = LoraConfig(
        r=8, lora_alpha=12, target_modules=["q_proj", "v_proj"], target_parameters=EXPERTS, task_type="CAUSAL_LM"
    )
    torch.manual_seed(spec.seed)
    model = get_peft_model(base, config)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5, momentum=0.9)
    data = resources.tokens_for(spec.config, resources.base_for(spec.config)).train
    windows, losses = Windows(data, 4, 1, spec.seed), list[float]()
    for window in list(windows.order_epoch(0))[:4]:
        batch: Any = collate_tokens([data[index] for index in window], 0, 0)  # type: ignore[misc]  # rows of text
        optimizer.zero_grad()
        mask = (batch.ids_BT != 0).long()
        logits = model(input_ids=batch.ids_BT, attention_mask=mask).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), batch.labels_BT[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def test_a_trial_trains_what_peft_s_own_wrapper_trains(
    make_moe: SpecFactory, mixtral: Path, resources: Resources, tmp_path: Path
) -> None:
    """Losses, and the weights after four steps, which are sums of the gradients; they are near, since a row's padding
    and the order of sums differ."""
    spec = make_moe(0, "adapter.lora_mlp=true", "training.gradient_clip=1.0")
    record = run([spec], resources)[0]
    assert record.status is Status.FINISHED, record.reason
    by_hand, losses = train_by_hand(spec, mixtral, resources)
    assert [point.loss for point in record.losses] == pytest.approx(losses, rel=1e-5)
    by_hand.save_pretrained(str(tmp_path / "by_hand"))
    found = load_file(spec.folder / "adapter" / "adapter_model.safetensors")
    expected = load_file(tmp_path / "by_hand" / "adapter_model.safetensors")
    assert found.keys() == expected.keys()
    assert record.num_trainable_params == sum(weight.numel() for weight in expected.values())
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-6, msg=name)
    moved = [name for name, weight in expected.items() if "experts" in name and "lora_B" in name and weight.any()]
    assert len(moved) == 2 * 4  # of four layers
    config = json.loads((spec.folder / "adapter" / "adapter_config.json").read_text())
    assert sorted(config["target_parameters"]) == ["down_proj", "gate_up_proj"]
    fresh = AutoModelForCausalLM.from_pretrained(mixtral)
    ids = torch.arange(3, 43).view(2, 20)
    loaded = PeftModel.from_pretrained(fresh, str(spec.folder / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, by_hand.eval()(ids).logits, rtol=1e-3, atol=1e-4)


def test_checkpointing_and_a_resumed_trial_train_the_same(make_moe: SpecFactory, resources: Resources) -> None:
    """Layers that are computed again in the backward adapt their experts again; a trial that was cut off goes on."""
    plain, again, cut = (make_moe(number, "adapter.lora_mlp=true", *more) for number, more in enumerate(
        ((), ("training.gradient_checkpointing=true",), ())))  # fmt: skip
    expected = run([plain], resources)[0]
    losses = [point.loss for point in expected.losses]
    assert [point.loss for point in run([again], resources)[1].losses] == pytest.approx(losses, rel=1e-6)

    def stop(number: int, step: int, values: dict[str, float]) -> None:
        if step == 2 and "train_loss" in values:
            raise Stopped

    resources.checkpoint_seconds = 0.0
    with pytest.raises(Stopped):
        list(run_cohort([cut], resources, stop, no_words, list))
    assert (cut.folder / "checkpoint.pt").exists()
    told: list[int] = []
    resumed = run_alone(cut, Resources(torch.device("cpu")), lambda number, step, values: told.append(step))
    assert resumed.status is Status.FINISHED, resumed.reason
    assert min(told) >= 1  # from its checkpoint on
    assert [point.loss for point in resumed.losses] == losses
    assert outcome(cut, resumed)["weights"] == outcome(plain, expected)["weights"]


def test_in_a_cohort_it_waits_until_the_base_is_free(
    make_moe: SpecFactory, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others of the same geometry share the base before it or after it; all end as they end by themselves."""
    monkeypatch.setattr(capacity, "pays_to_measure", lambda *_: True)
    monkeypatch.setattr(capacity, "measure_fastest_size", lambda trials, _: len(trials))
    toggles = ["false", "true", "false", "true"]
    specs = [make_moe(number, f"adapter.lora_mlp={toggle}") for number, toggle in enumerate(toggles)]
    assert all(spec.geometry == specs[0].geometry is not None for spec in specs)
    for order in (specs, specs[::-1]):
        records = run(order, resources)
        assert {number: record.cohort for number, record in records.items()} == {0: [0, 2], 1: [1], 2: [0, 2], 3: [3]}
        alone = {spec.number: outcome(spec, run([spec], Resources(torch.device("cpu")))[spec.number]) for spec in specs}
        for number, record in records.items():
            assert record.status is Status.FINISHED, record.reason
            assert outcome(specs[number], record)["losses"] == alone[number]["losses"]
            why = "trained alone: PEFT adapts model.layers.0.mlp.experts.gate_up_proj as a parameter, for all rows "
            assert any(note.startswith(why) for note in record.notes) == (toggles[number] == "true")


def test_dropout_is_refused_and_a_quantized_base_has_its_experts_as_they_are(
    make_moe: SpecFactory, resources: Resources
) -> None:
    dropped = run([make_moe(0, "adapter.lora_mlp=true", "adapter.dropout=0.1")], resources)[0]
    assert dropped.status is Status.REFUSED
    assert dropped.reason is not None
    assert dropped.reason.startswith("adapter.dropout must be 0 with adapter.lora_mlp=true on a mixtral: PEFT adapts ")
    assert dropped.reason.endswith("got 0.1; choose adapter.dropout=0, or adapter.lora_mlp=false")
    packed = run([make_moe(0, "adapter.lora_mlp=true", "quantization=nf4")], resources)[0]
    assert packed.status is Status.FINISHED, packed.reason
    assert resources.base is not None
    weights = dict(resources.base.model.named_parameters())
    assert weights["model.layers.0.mlp.experts.gate_up_proj"].dtype is torch.float32
    assert weights["model.layers.0.self_attn.q_proj.weight"].dtype is torch.uint8
