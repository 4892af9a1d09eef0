"""Trials trained at once on one base against each one alone, through PEFT and plain torch."""

import importlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM

from sweeplab.cohort import Cohort
from sweeplab.config import TrialConfig
from sweeplab.data.batches import Row, Windows, collate_rows
from sweeplab.data.images import load_images
from sweeplab.models.adapters import attach
from sweeplab.models.base import Base, load_base
from sweeplab.models.dropout import Extent, keep_mask
from sweeplab.models.vision import image_size
from sweeplab.records import Status, TrialRecord
from sweeplab.training.module import target_loss_sum
from sweeplab.training.schedules import rate_factor
from sweeplab.trial import Run, TrialSpec, num_steps
from sweeplab.workbench import Tokenized, Workbench
from tests.conftest import no_words
from tests.training.conftest import examples

PAD = 0
DATA = examples(22, seed=1)
HELDOUT = examples(5, seed=9)
COMMON = (
    "training.micro_batch_size=2", "training.accumulation=2", "training.epochs=2", "evaluation=none",
    "training.log_interval=1", "quantization=none",
)  # fmt: skip
VISION = ("model=tiny_vit", "data=digits")
MIXED: dict[str, tuple[int, tuple[str, ...]]] = {  # what a cohort may mix, with each trial's seed
    "rank 2, AdamW, cosine": (0, ("adapter.rank=2", "optimizer=adamw", "schedule=cosine")),
    "rank 32, dropout": (1, ("adapter.rank=32", "adapter.dropout=0.2", "adapter.lora_mlp=true", "schedule=linear")),
    "SGD with momentum, clipped hard": (2, ("adapter.rank=4", "optimizer=sgd", "training.gradient_clip=0.01")),
    "rank 4 again, unclipped, dropout": (
        3, ("adapter.rank=4", "adapter.dropout=0.5", "optimizer=sgd", "schedule=constant",
            "training.gradient_clip=null")
    ),
    "every toggle, LoRA+": (
        0, ("adapter.rank=8", "adapter.lora_head=true", "adapter.lora_mlp=true", "adapter.lora_projection=true",
            "adapter.lora_key=true", "adapter.lr_ratio=4")
    ),
    "rank and rate patterns, rsLoRA": (
        4, ("adapter.rank=6", "+adapter.rank_pattern={q_proj: 3}", "+adapter.lr_pattern={layers.1: 0.5}",
            "adapter.rslora=true", "adapter.alpha=5")
    ),
    "Adafactor, three epochs": (5, ("adapter.rank=5", "optimizer=adafactor", "training.epochs=3")),
    "head, dropout": (7, ("adapter.rank=3", "adapter.lora_head=true", "adapter.dropout=0.3")),
    "few steps": (6, ("adapter.rank=16", "training.max_steps=3", "schedule.warmup_steps=2")),
}  # fmt: skip


class KeyedDropout(nn.Module):
    """The dropout that a trial is to have, in PEFT's layer."""

    def __init__(self, name: str, p: float, seed: int) -> None:
        super().__init__()
        self.name, self.p, self.seed, self.micro_step = name, p, seed, 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        extent = Extent(x.shape[0], math.prod(x.shape[1:-1]))  # an image classifier's head reads one vector a row
        key = f"{self.seed} {self.micro_step} {self.name}"
        return x * keep_mask(key, self.p, extent, extent, x.shape[-1], x.device).view(x.shape)


class Solo(NamedTuple):
    weights: dict[str, Tensor]
    losses: list[float]
    heldout_loss: float


def solo(base: nn.Module, spec: TrialSpec, data: Sequence[Row], heldout: Sequence[Row]) -> Solo:
    """A plain loop over PEFT's model, one trial and one micro-batch at a time; the base is free of it afterwards."""
    config = spec.config
    model: Any = attach(base, config.adapter, config.model, spec.seed)  # type: ignore[arg-type]
    dropouts = []
    for name, module in model.named_modules():
        if hasattr(module, "lora_dropout") and config.adapter.dropout:
            dropouts.append(KeyedDropout(name.removeprefix("base_model.model."), config.adapter.dropout, spec.seed))
            module.lora_dropout["default"] = dropouts[-1]
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    optimizer = plain_optimizer(named, config)
    rates = [group["lr"] for group in optimizer.param_groups]
    training = config.training
    windows = Windows(data, training.micro_batch_size, training.accumulation, spec.seed)
    total, losses, micro_step = num_steps(training, windows.num_per_epoch), [], 0
    model.train()
    stream = windows.since(0)
    for step in range(total):
        optimizer.zero_grad()
        loss = 0.0
        for place, micro in enumerate(next(stream)):
            for dropout in dropouts:
                dropout.micro_step = step * training.accumulation + place
            batch = collate_rows([data[index] for index in micro.indices], PAD, 0)
            share = target_loss_sum(model, batch) / micro.num_window_targets
            share.backward()
            loss += share.item()
            micro_step += 1
        if training.gradient_clip is not None:
            nn.utils.clip_grad_norm_([weight for _, weight in named], training.gradient_clip)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * rate_factor(config.schedule, step, total)
        optimizer.step()
        losses.append(loss)
    model.eval()
    with torch.no_grad():
        total_loss = sum(target_loss_sum(model, collate_rows([row], PAD, 0)).item() for row in heldout)
    weights = {name.replace(".default", ""): weight.detach().clone() for name, weight in named}
    model.unload()
    return Solo(weights, losses, total_loss / sum(row.num_targets for row in heldout))


def plain_optimizer(named: list[tuple[str, nn.Parameter]], config: TrialConfig) -> torch.optim.Optimizer:
    """The library's class with a rate for each weight, by hand."""
    settings = dict(config.optimizer)
    home, _, name = settings.pop("_target_").rpartition(".")
    groups = []
    for key, weight in named:
        factor = config.adapter.lr_ratio if "lora_B" in key else 1.0
        factor *= next((value for pattern, value in config.adapter.lr_pattern.items() if pattern in key), 1.0)
        groups.append({"params": [weight], "lr": settings["lr"] * factor})
    made: torch.optim.Optimizer = getattr(importlib.import_module(home), name)(groups, **settings)
    return made


class GivenBench(Workbench):
    """A workbench with this base and these data, whatever the configuration says."""

    def given(self, base: Base, data: Sequence[Row], heldout: Sequence[Row]) -> "GivenBench":
        self.base, self.given_data = base, Tokenized(data, heldout, 0, "")
        return self

    def base_for(self, config: TrialConfig) -> Base:
        assert self.base is not None
        return self.base

    def tokens_for(self, config: TrialConfig, base: Base) -> Tokenized:
        return self.given_data


@pytest.fixture
def bench64(tiny_llama: Any, embedded_base: Base) -> GivenBench:
    """A random Llama of two layers in 64 bits."""
    base = embedded_base._replace(model=tiny_llama().requires_grad_(False))
    return GivenBench(torch.device("cpu")).given(base, DATA, HELDOUT)


@pytest.fixture
def vision_bench64(compose_trial: Any) -> GivenBench:
    """The embedded ViT in 64 bits, and images whose last window of an epoch holds a single one."""
    config = compose_trial(*VISION, "quantization=none", "data.num_examples=21")
    base = load_base(config.model, config.quantization, torch.float64, torch.device("cpu"))
    images = load_images(config.data, image_size(base.model.config))
    return GivenBench(base.model.device).given(base, images.train, images.heldout[:5])


@pytest.fixture
def specs(compose_trial: Any, tmp_path: Any) -> Callable[..., list[TrialSpec]]:
    def make(*more: str, names: Sequence[str] = tuple(MIXED)) -> list[TrialSpec]:
        made = []
        for number, name in enumerate(names):
            seed, overrides = MIXED[name]
            chosen = {one.partition("=")[0]: one for one in (*COMMON, *overrides, *more)}
            made.append(TrialSpec(number, seed, {}, compose_trial(*chosen.values()), tmp_path / f"{number:05d}"))
        return made

    return make


def ignore(number: int, step: int, values: dict[str, float]) -> None:
    pass


def through(
    bench: Workbench, specs: Sequence[TrialSpec], num_late: int = 0
) -> tuple[dict[int, Run], dict[int, TrialRecord]]:
    """All of them at once, to the end; the last `num_late` join when another one has ended."""
    cohort, waiting = Cohort(bench, ignore, no_words, len(specs)), deque(specs)
    runs: dict[int, Run] = {}
    records: dict[int, TrialRecord] = {}
    while waiting or cohort.runs:
        while len(waiting) > (0 if records else num_late):
            assert cohort.admit(waiting.popleft()) is None
        runs |= {run.spec.number: run for run in cohort.runs}
        records |= {record.number: record for record in cohort.go_on()}
    return runs, records


def slot_weights(run: Run) -> dict[str, Tensor]:
    assert run.slot is not None
    return {
        f"base_model.model.{name}.lora_{part}.weight": weight
        for name, pair in run.slot.weights().items()
        for part, weight in zip("AB", pair, strict=True)
    }


def assert_equals(run: Run, record: TrialRecord, expected: Solo, tolerance: float) -> None:
    """Largest difference of any weight relative to the largest weight of its matrix, and of any loss."""
    found = slot_weights(run)
    assert found.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=tolerance * weight.abs().max().item(), msg=name)
    assert [point.loss for point in record.losses] == pytest.approx(expected.losses, rel=tolerance)
    assert record.heldout_loss_nats_per_token == pytest.approx(expected.heldout_loss, rel=tolerance)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_mixed_cohort_equals_every_trial_alone(bench64: GivenBench, specs: Any, checkpointing: bool) -> None:
    made = specs(f"training.gradient_checkpointing={checkpointing}")
    runs, records = through(bench64, made)
    assert bench64.base is not None
    for spec in made:
        expected = solo(bench64.base.model, spec, DATA, HELDOUT)
        assert records[spec.number].status is Status.FINISHED
        assert_equals(runs[spec.number], records[spec.number], expected, 1e-12)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_mixed_cohort_of_image_classifiers_equals_every_trial_alone(
    vision_bench64: GivenBench, specs: Any, checkpointing: bool
) -> None:
    """Two trials join late, so that their windows hold more images than the others' where an epoch ends."""
    made = specs(*VISION, f"training.gradient_checkpointing={checkpointing}")
    late = [one for one in made if one.config.adapter.dropout][-2:]
    made = [one for one in made if one not in late] + late
    runs, records = through(vision_bench64, made, num_late=2)
    assert vision_bench64.base is not None
    data, heldout = vision_bench64.given_data.train, vision_bench64.given_data.heldout
    for spec in made:
        expected = solo(vision_bench64.base.model, spec, data, heldout)
        assert records[spec.number].status is Status.FINISHED, records[spec.number].reason
        assert_equals(runs[spec.number], records[spec.number], expected, 1e-12)


def test_dropout_where_a_layer_takes_all_rows_as_one(specs: Any, embedded_base: Base) -> None:
    """OPT's MLP reads a matrix of all tokens of the batch."""
    sizes: dict[str, Any] = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = OPTConfig(**sizes, vocab_size=128, word_embed_proj_dim=32, max_position_embeddings=64, dropout=0.0)
    config.use_cache = False
    model = OPTForCausalLM(config).double().requires_grad_(False)
    bench = GivenBench(torch.device("cpu")).given(embedded_base._replace(model=model), DATA, HELDOUT)
    made = specs("adapter.lora_mlp=true", names=("rank 32, dropout", "rank 4 again, unclipped, dropout", "few steps"))
    runs, records = through(bench, made)
    for spec in made:
        assert_equals(runs[spec.number], records[spec.number], solo(model, spec, DATA, HELDOUT), 1e-12)
