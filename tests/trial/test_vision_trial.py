"""Trials of an image classifier, from configuration to record, against plain loops of torch and PEFT alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from sweeplab.adapters.merging import attach_trained, compute_probe_logits, merge_adapter
from sweeplab.builtin.digits import split_digits
from sweeplab.config.compatible import check_trial
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.models.base import _EMBEDDED
from sweeplab.models.quantization.layers import dequantize_layers
from sweeplab.records.record import Status, TrialRecord
from sweeplab.runtime.errors import ConfigError
from sweeplab.trial.resources import Resources
from tests.trials import SpecFactory, run_alone

PACKAGE = _EMBEDDED.with_name("tiny_vit")
VISION = ("model=tiny_vit", "data=digits", "optimizer.lr=1e-3", "quantization=none", "evaluation.limit=null")


def run(spec: TrialSpec, resources: Resources) -> TrialRecord:
    record = run_alone(spec, resources)
    assert record.status is Status.FINISHED, record.reason
    return record


def pixels_of(orientation: str) -> tuple[Tensor, Tensor]:
    heldout = split_digits(orientation)[1]
    pixels = torch.tensor([image.pixels for image in heldout], dtype=torch.float32)[:, None] / 8 - 1
    return pixels, torch.tensor([image.label for image in heldout])


@torch.no_grad()
def test_a_record_says_what_peft_finds_in_the_saved_adapter(make_spec: SpecFactory, resources: Resources) -> None:
    spec = make_spec(0, *VISION, "training.max_steps=20", "data.num_examples=null")
    record = run(spec, resources)
    plain = ViTForImageClassification.from_pretrained(PACKAGE)
    model = PeftModel.from_pretrained(plain, str(spec.folder / "adapter")).eval()
    items = [json.loads(line) for line in (spec.folder / "items.jsonl").read_text().splitlines()]
    for orientation in ("rotated", "upright"):
        pixels, labels = pixels_of(orientation)
        guessed = model(pixel_values=pixels).logits.argmax(-1)
        hits = (guessed == labels).numpy().astype(float)
        score = record.scores[f"digits_{orientation}"]["accuracy"]
        assert (score.value, score.num_items) == (hits.mean(), 400)
        assert score.stderr == pytest.approx(hits.std(ddof=1) / np.sqrt(400))
        rows = [item for item in items if item.get("task") == f"digits_{orientation}"]
        assert [item["responses"] for item in rows] == [[str(guess)] for guess in guessed.tolist()]
    pixels, labels = pixels_of("rotated")
    expected = F.cross_entropy(model(pixel_values=pixels).logits, labels, reduction="none")
    assert record.heldout_loss_nats_per_token == pytest.approx(expected.mean().item(), rel=1e-5)
    (losses,) = [item for item in items if "sums" in item]
    assert losses["sums"] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)
    assert losses["counts"] == [1] * 400
    assert record.num_train_tokens == 20 * 4 * 17
    assert record.num_trainable_params == 2 * 2 * 8 * (64 + 64)
    assert (record.num_total_params, record.num_train_examples, record.num_truncated) == (69_194, 1397, 0)


def trained(spec: TrialSpec) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(spec.folder / "adapter" / "adapter_model.safetensors")


# slow: a base in 32 bits, beside one in 4
@pytest.mark.parametrize("quantization", [pytest.param("none", marks=pytest.mark.slow), "nf4_dq"])
def test_accumulation_equals_the_large_batch(make_spec: SpecFactory, resources: Resources, quantization: str) -> None:
    """Two epochs of 22 images, the last window of each smaller."""
    common = [one for one in VISION if "quantization" not in one]
    common += [f"quantization={quantization}", "training.max_steps=6", "data.num_examples=22", "optimizer=sgd"]
    large = make_spec(0, *common, "training.micro_batch_size=8")
    small = make_spec(1, *common, "training.micro_batch_size=2", "training.accumulation=4")
    records = [run(spec, resources) for spec in (large, small)]
    expected, found = trained(large), trained(small)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-6, msg=name)
    first, second = ([point.loss for point in record.losses] for record in records)
    assert first == pytest.approx(second, rel=1e-4)


def test_checkpointing_changes_no_gradient(make_spec: SpecFactory, resources: Resources) -> None:
    plain, checkpointed = make_spec(0, *VISION), make_spec(1, *VISION, "training.gradient_checkpointing=true")
    for spec in (plain, checkpointed):
        run(spec, resources)
    expected = trained(plain)
    assert {name for name, weight in trained(checkpointed).items() if not torch.equal(weight, expected[name])} == set()


@pytest.mark.parametrize("adapter", ["dora", "loraplus", "bitfit", "norms", "top_layers", "none"])
def test_every_method_without_virtual_tokens_learns(make_spec: SpecFactory, resources: Resources, adapter: str) -> None:
    record = run(make_spec(0, *VISION, f"adapter={adapter}", "training.max_steps=30"), resources)
    assert record.losses[-1].loss < record.losses[0].loss


def test_sophia_takes_its_second_backward_through_images(make_spec: SpecFactory, resources: Resources) -> None:
    overrides = [one for one in VISION if "optimizer" not in one]
    record = run(make_spec(0, *overrides, "optimizer=sophia", "training.max_steps=12"), resources)
    assert record.losses[-1].loss < record.losses[0].loss


def test_a_model_of_ones_own_with_other_sizes(make_spec: SpecFactory, resources: Resources, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    labels = {label: str(label) for label in range(11)}
    config = ViTConfig(**sizes, image_size=24, patch_size=8, num_channels=3, id2label=labels)
    ViTForImageClassification(config).save_pretrained(tmp_path / "own")
    own = ("model=local", f"model.path={tmp_path / 'own'}", "data.target=upright", "evaluation.tasks=[digits_upright]")
    record = run(make_spec(0, *VISION, *own), resources)
    assert record.scores.keys() == {"digits_upright"}
    assert record.num_train_tokens == 4 * 4 * 10


def test_text_before_an_image_classifier_is_refused_before_training(
    make_spec: SpecFactory, resources: Resources, tmp_path: Path
) -> None:
    spec = make_spec(0, *VISION)
    text = make_spec(1, "quantization=none").config.data
    record = run_alone(replace(spec, config=spec.config.replaced(data=text)), resources)
    assert (record.status, record.step) == (Status.REFUSED, None)
    assert str(record.reason).startswith("data.name=tiny_facts does not go with this model, a vit")


REFUSED = {
    "adapter=prompt": r"^adapter.method is for text and does not go with data=digits, got prompt; choose adapter=lora$",
    "adapter=prefix": r"^adapter.method is for text",
    "adapter=lora_prefix": r"^adapter.method is for text",
    "data.packing=true": r"^data.packing has no effect with data=digits, got true; .*, or leave data.packing out$",
    "evaluation.num_fewshot=2": r"^evaluation.num_fewshot is for text .*, got 2; choose null$",
    "evaluation.tasks=[hellaswag]": r"^evaluation.tasks with data=digits is unknown, got 'hellaswag'; .* digits_rot",
    "data.target=mirrored": r"^data.target is unknown, got 'mirrored'; choose one of rotated, upright$",
    "model=tiny": r"^data.name=digits does not go with model.name=tiny_base; choose model=tiny_vit$",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_is_for_text_is_refused(compose_trial: Any, override: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[override]):
        check_trial(compose_trial("model=tiny_vit", "data=digits", override))


@pytest.mark.parametrize("quantization", ["none", "nf4_dq"])
def test_an_exported_classifier_is_what_was_trained(
    compose_trial: Any, resources: Resources, tmp_path: Path, quantization: str
) -> None:
    """Merged into a dequantized base and read by transformers alone, it answers as base and adapter did."""
    chosen = ("model=tiny_vit", "data=digits", "adapter.lora_head=true", "training.max_steps=20")
    config = compose_trial(*chosen, f"quantization={quantization}")
    run(TrialSpec(0, 0, {}, config, tmp_path / "trial"), resources)
    trained_model = attach_trained(
        resources.base_for(config).model, config.adapter, config.model, 0, tmp_path / "trial" / "adapter"
    )
    expected = compute_probe_logits(trained_model)
    assert expected.shape == (4, 10)
    resources.forget_base()
    base = resources.base_for(config).model
    dequantize_layers(base)
    merged = merge_adapter(attach_trained(base, config.adapter, config.model, 0, tmp_path / "trial" / "adapter"))
    merged.save_pretrained(tmp_path / "merged")
    found = compute_probe_logits(ViTForImageClassification.from_pretrained(tmp_path / "merged"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
