"""Trials trained at once on one base against each one alone, through PEFT and plain torch."""

import importlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, OPTConfig, OPTForCausalLM

from sweeplab.adapters.attach import attach_adapter
from sweeplab.config.model import EmbeddedModel, HubModel
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data import batches
from sweeplab.data.batches import Row, Tokenized, Windows, collate_rows, make_heldout_batches
from sweeplab.data.images import ImageBatch, load_images
from sweeplab.models.base import Base, load_base, read_architecture
from sweeplab.models.behavior import has_randomness
from sweeplab.models.vision import read_image_size
from sweeplab.multilora.dropout import Extent, draw_dropout_mask
from sweeplab.multilora.packed import PackedAdapters
from sweeplab.records.record import Status, TrialRecord
from sweeplab.training import module as module_code
from sweeplab.training.checkpoints import write_checkpoint
from sweeplab.training.fit import fit_until_one_ends
from sweeplab.training.running_trial import RunningTrial
from sweeplab.training.schedules import compute_rate_factor
from sweeplab.training.start import count_steps
from sweeplab.trial import lifecycle
from sweeplab.trial.lifecycle import Cohort
from sweeplab.trial.resources import Resources
from tests.configs import quantize
from tests.random_models import SIZES
from tests.training.conftest import examples
from tests.trials import no_words

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
        return x * draw_dropout_mask(key, self.p, extent, extent, x.shape[-1], x.device).view(x.shape)


class Solo(NamedTuple):
    weights: dict[str, Tensor]
    losses: list[float]
    heldout_loss: float


def sum_losses(model: Any, batch: Any) -> Tensor:
    """By the model's own logits of all positions."""
    if isinstance(batch, ImageBatch):
        return F.cross_entropy(model(pixel_values=batch.pixels_BCHW).logits, batch.labels_B, reduction="sum")
    logits_BTV = model(input_ids=batch.ids_BT, attention_mask=batch.mask_BT).logits[:, :-1]
    return F.cross_entropy(logits_BTV.flatten(0, 1), batch.labels_BT[:, 1:].flatten(), reduction="sum")


def solo(base: nn.Module, spec: TrialSpec, data: Sequence[Row], heldout: Sequence[Row], nudge: float = 0.0) -> Solo:
    """A plain loop over PEFT's model, one trial and one micro-batch at a time; the base is free of it afterwards.

    `nudge`: what rounding does, by chance up or down: it changes every number of a gradient, at every step, by this
    share of the gradient's root mean square. A rounding is as large as the terms that are added up, not as their sum.
    """
    config = spec.config
    model: Any = attach_adapter(base, config.adapter, config.model, spec.seed)  # type: ignore[arg-type]
    dropouts = []
    for name, module in model.named_modules():
        if hasattr(module, "lora_dropout") and config.adapter.dropout:
            dropouts.append(KeyedDropout(name.removeprefix("base_model.model."), config.adapter.dropout, spec.seed))
            module.lora_dropout["default"] = dropouts[-1]
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    signs = torch.Generator().manual_seed(spec.seed)
    optimizer = plain_optimizer(named, config)
    rates = [group["lr"] for group in optimizer.param_groups]
    training = config.training
    windows = Windows(data, training.micro_batch_size, training.accumulation, spec.seed)
    total, losses, micro_step = count_steps(training, windows.num_per_epoch), [], 0
    model.train()
    stream = windows.iterate_from(0)
    for step in range(total):
        optimizer.zero_grad()
        loss = 0.0
        for place, micro in enumerate(next(stream)):
            for dropout in dropouts:
                dropout.micro_step = step * training.accumulation + place
            batch = collate_rows([data[index] for index in micro.indices], PAD, 0)
            share = sum_losses(model, batch) / micro.num_window_targets
            share.backward()
            loss += share.item()
            micro_step += 1
        for _, weight in named if nudge else ():
            assert weight.grad is not None
            up_or_down = 2 * torch.randint(2, weight.shape, generator=signs) - 1
            weight.grad += nudge * weight.grad.square().mean().sqrt() * up_or_down
        if training.gradient_clip is not None:
            nn.utils.clip_grad_norm_([weight for _, weight in named], training.gradient_clip)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * compute_rate_factor(config.schedule, step, total)
        optimizer.step()
        losses.append(loss)
    model.eval()
    with torch.no_grad():
        total_loss = sum(sum_losses(model, collate_rows([row], PAD, 0)).item() for row in heldout)
    weights = {name.replace(".default", ""): weight.detach().clone() for name, weight in named}
    model.unload()
    return Solo(weights, losses, total_loss / sum(row.num_targets for row in heldout))


def plain_optimizer(named: list[tuple[str, nn.Parameter]], config: TrialConfig) -> torch.optim.Optimizer:
    """The library's class with a rate for each weight, by hand."""
    settings = config.optimizer.to_dict()
    home, _, name = settings.pop("_target_").rpartition(".")
    groups = []
    for key, weight in named:
        factor = config.adapter.lr_ratio if "lora_B" in key else 1.0
        factor *= next((value for pattern, value in config.adapter.lr_pattern.items() if pattern in key), 1.0)
        groups.append({"params": [weight], "lr": settings["lr"] * factor})
    made: torch.optim.Optimizer = getattr(importlib.import_module(home), name)(groups, **settings)
    return made


class GivenBench(Resources):
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
    images = load_images(config.data, read_image_size(base.model.config))
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
    resources: Resources, specs: Sequence[TrialSpec], num_late: int = 0
) -> tuple[dict[int, RunningTrial], dict[int, TrialRecord]]:
    """All of them at once, to the end; the last `num_late` join when another one has ended."""
    cohort, waiting = Cohort(resources, ignore, no_words, len(specs)), deque(specs)
    runs: dict[int, RunningTrial] = {}
    records: dict[int, TrialRecord] = {}
    while waiting or cohort.trials:
        while len(waiting) > (0 if records else num_late):
            assert cohort.admit(waiting.popleft()) is None
        runs |= {run.spec.number: run for run in cohort.trials}
        records |= {record.number: record for record in cohort.advance()}
    return runs, records


def slot_weights(run: RunningTrial) -> dict[str, Tensor]:
    assert run.slot is not None
    return {
        f"base_model.model.{name}.lora_{part}.weight": weight
        for name, pair in run.slot.weights().items()
        for part, weight in zip("AB", pair, strict=True)
    }


def assert_equals(run: RunningTrial, record: TrialRecord, expected: Solo, tolerance: float) -> None:
    """Largest difference of any weight relative to the largest weight of its matrix, and of any loss."""
    found = slot_weights(run)
    assert found.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=tolerance * weight.abs().max().item(), msg=name)
    assert [point.loss for point in record.losses] == pytest.approx(expected.losses, rel=tolerance)
    assert record.heldout_loss_nats_per_token == pytest.approx(expected.heldout_loss, rel=tolerance)


_solos: dict[tuple[str, int, str], Solo] = {}


def solo_once(resources: GivenBench, spec: TrialSpec) -> Solo:
    """`solo` on a base of which every test has a copy with the same weights, and the same data: no two loops alike.

    What a cohort recomputes does not matter to the loop, which keeps everything.
    """
    base, training = resources.base, spec.config.training.replaced(gradient_checkpointing=False)
    assert base is not None
    key = (base.model.config.model_type, spec.seed, str(spec.config.replaced(training=training).to_dict()))
    if key not in _solos:
        _solos[key] = solo(base.model, spec, resources.given_data.train, resources.given_data.heldout)
    return _solos[key]


# slow: what checkpointing recomputes is shown in test_fit.py, and in two processes in test_divided.py
@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_mixed_cohort_equals_every_trial_alone(bench64: GivenBench, specs: Any, checkpointing: bool) -> None:
    made = specs(f"training.gradient_checkpointing={checkpointing}")
    runs, records = through(bench64, made)
    for spec in made:
        expected = solo_once(bench64, spec)
        assert records[spec.number].status is Status.FINISHED
        assert_equals(runs[spec.number], records[spec.number], expected, 1e-12)


@pytest.mark.parametrize(
    ("scheme", "epochs"),
    [  # slow: 32 bits without a scheme, which a scheme computes in too; another way to store scales; a second epoch,
        # which 64 bits show; 8 bits, whose layers are compared in test_schemes.py
        pytest.param("none", 1, marks=pytest.mark.slow),
        pytest.param("nf4", 2, marks=pytest.mark.slow),
        ("nf4_dq", 1),
        pytest.param("nf4_dq", 2, marks=pytest.mark.slow),
        pytest.param("int8", 1, marks=pytest.mark.slow),
    ],
)
def test_in_32_bits_and_on_a_quantized_base_it_stays_close(
    scheme: str, epochs: int, load: Callable[[str], Base], specs: Any, make_spec: Any
) -> None:
    """Losses within 5e-6 nats and weights within 1e-4, or a few times what a change of 1e-7 makes of PEFT itself."""
    base = load(scheme)
    facts: Any = Resources(torch.device("cpu")).tokens_for(make_spec(0, "data.num_examples=22").config, base).train
    resources = GivenBench(torch.device("cpu")).given(base, facts, HELDOUT)
    names = ("rank 2, AdamW, cosine", "rank 32, dropout", "SGD with momentum, clipped hard", "few steps")
    made = specs(f"training.epochs={epochs}", names=names)
    runs, records = through(resources, made)
    for spec in made:
        expected, nudged = (solo(base.model, spec, facts, HELDOUT, nudge) for nudge in (0.0, 1e-7))
        found = slot_weights(runs[spec.number])
        losses = [point.loss for point in records[spec.number].losses]
        own = max(abs(a - b) for a, b in zip(expected.losses, nudged.losses, strict=True))
        assert losses == pytest.approx(expected.losses, rel=0, abs=max(5e-6, 3 * own))
        for name, weight in expected.weights.items():
            own = (weight - nudged.weights[name]).abs().max().item()
            torch.testing.assert_close(found[name], weight, rtol=0, atol=max(1e-4, 5 * own), msg=name)


@pytest.fixture
def load() -> Callable[[str], Base]:
    """The embedded base in 32 bits under a scheme."""

    def make(scheme: str) -> Base:
        quantization = quantize(scheme.removesuffix("_dq"), scheme.endswith("_dq"))
        model = EmbeddedModel(name="tiny_base")
        return load_base(model, quantization, torch.float32, torch.device("cpu"))

    return make


def outcomes(runs: dict[int, RunningTrial], records: dict[int, TrialRecord], numbers: Sequence[int]) -> dict[int, Any]:
    """Weights and losses, to be compared bit for bit."""
    return {
        number: (
            {name: weight.tolist() for name, weight in slot_weights(runs[number]).items()},
            [(point.step, point.loss, point.lr) for point in records[number].losses],
            records[number].heldout_loss_nats_per_token,
        )
        for number in numbers
    }


def test_a_trial_that_is_no_number_leaves_the_others_bit_equal(bench64: GivenBench, specs: Any) -> None:
    """One weight of one trial is made NaN; the others end as they do beside the same trial unharmed, bit for bit, until
    its place is empty, and within rounding after."""
    names = ("rank 2, AdamW, cosine", "rank 32, dropout", "SGD with momentum, clipped hard")

    def run(harm: bool) -> tuple[dict[int, RunningTrial], dict[int, TrialRecord]]:
        cohort = Cohort(bench64, ignore, no_words, 3)
        for spec in specs("training.epochs=1", "training.heldout_interval=3", names=names):
            assert cohort.admit(spec) is None
        runs = {one.spec.number: one for one in cohort.trials}
        if harm:
            harmed = runs[1].slot
            assert harmed is not None
            harmed.row_P[0] = float("nan")
        records: dict[int, TrialRecord] = {}
        while cohort.trials:
            records |= {record.number: record for record in cohort.advance()}
        return runs, records

    whole, beside = run(harm=False), run(harm=True)
    assert beside[1][1].status is Status.DIVERGED
    assert (beside[1][1].step, beside[1][1].phase) == (0, "train")
    assert str(beside[1][1].reason).startswith("the training loss became nan after 0 steps")
    for number in (0, 2):
        assert beside[1][number].status is Status.FINISHED
        expected, found = (outcomes(*one, [number])[number] for one in (whole, beside))
        assert found[1][0] == expected[1][0]  # the step at which the harmed trial still had its place
        for name, weight in expected[0].items():
            torch.testing.assert_close(torch.tensor(found[0][name]), torch.tensor(weight), rtol=0, atol=1e-13, msg=name)


def test_heldout_batches_are_made_once_for_all_trials_and_points(
    bench64: GivenBench, specs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def counted(rows: Sequence[Row], pad_id: int, batch_size: int, growing_length: int | None) -> list[Any]:
        sizes.append((len(rows), batch_size))
        return list(make_heldout_batches(rows, pad_id, batch_size, growing_length))

    monkeypatch.setattr(batches, "make_heldout_batches", counted)
    made = specs("training.max_steps=4", "training.heldout_interval=2", names=("rank 2, AdamW, cosine", "few steps"))
    _, records = through(bench64, made)
    assert [len(record.heldout_losses) for record in records.values()] == [2, 2]
    assert sizes == [(len(HELDOUT), made[0].config.evaluation.batch_size)]


def test_newcomers_equal_their_solo_runs_and_survivors_do_not_notice(bench64: GivenBench, specs: Any) -> None:
    """Places for three trials and eight to run: each leaves when it ends, and the next one takes its place."""
    made = specs()
    made.insert(1, made.pop())  # the one with few steps
    cohort = Cohort(bench64, ignore, no_words, 3)
    records: dict[int, TrialRecord] = {}
    runs: dict[int, RunningTrial] = {}
    waiting = list(made)
    while waiting or cohort.trials:
        while waiting and len(cohort.trials) < 3:
            assert cohort.admit(waiting.pop(0)) is None
            runs[cohort.trials[-1].spec.number] = cohort.trials[-1]
        records |= {record.number: record for record in cohort.advance()}
    assert any(len(record.cohort) > 3 for record in records.values())  # neighbours came and went
    for spec in made:
        assert_equals(runs[spec.number], records[spec.number], solo_once(bench64, spec), 1e-12)


@pytest.mark.parametrize("how", ["pruned", "timed_out"])
def test_a_trial_that_ends_early_makes_room_and_the_others_equal_their_solo_runs(
    bench64: GivenBench, specs: Any, how: str
) -> None:
    """One is given up at its second held-out loss, or has used up its time; a newcomer takes its place."""
    names = ("rank 2, AdamW, cosine", "rank 32, dropout", "SGD with momentum, clipped hard", "few steps")
    made = specs("training.epochs=1", "training.heldout_interval=1", names=names)

    def observe(number: int, step: int, values: dict[str, float]) -> str | None:
        return "worse than others" if (how, number, step) == ("pruned", 1, 2) and "heldout_loss" in values else None

    cohort = Cohort(bench64, observe, no_words, 3)
    for spec in made[:3]:
        assert cohort.admit(spec) is None
    if how == "timed_out":
        cohort.trials[1].most_seconds = 0.0
    runs = {run.spec.number: run for run in cohort.trials}
    records: dict[int, TrialRecord] = {}
    while not records:
        records = {record.number: record for record in cohort.advance()}
    assert [(one.number, one.status.value, one.step) for one in records.values()] in (
        [(1, "pruned", 2)],
        [(1, "timed_out", 1)],
    )
    assert str(records[1].reason).startswith(
        "worse than others" if how == "pruned" else "over executor.trial_seconds=0 after 1 of "
    )
    assert cohort.admit(made[3]) is None
    runs |= {run.spec.number: run for run in cohort.trials}
    while cohort.trials:
        records |= {record.number: record for record in cohort.advance()}
    assert records[1].heldout_loss_nats_per_token is None
    assert not (made[1].folder / "checkpoint.pt").exists()
    for spec in (made[0], made[2], made[3]):
        assert_equals(runs[spec.number], records[spec.number], solo_once(bench64, spec), 1e-12)


def test_memory_that_runs_out_halves_the_cohort(
    bench64: GivenBench, specs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than two trials at once never fit: all of them are trained, two at a time, to the same end."""
    made, said = specs(), list[str]()
    real = fit_until_one_ends

    def small(runs: Sequence[RunningTrial], *settings: Any) -> None:
        if len(runs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore lines")
        real(runs, *settings)

    monkeypatch.setattr(lifecycle, "fit_until_one_ends", small)
    cohort = Cohort(bench64, ignore, said.append, len(made))
    for spec in made:
        assert cohort.admit(spec) is None
    runs = {run.spec.number: run for run in cohort.trials}
    records: dict[int, TrialRecord] = {}
    while cohort.trials:
        records |= {record.number: record for record in cohort.advance()}
    assert said == [
        f"{size} trials at once: OutOfMemoryError: CUDA out of memory. Tried to allocate 9 GiB; "
        f"going on with {half} at a time"
        for size, half in ((len(made), 4), (4, 2))
    ]
    for spec in made:
        assert_equals(runs[spec.number], records[spec.number], solo_once(bench64, spec), 1e-12)


def test_saved_adapters_are_peft_s(load: Callable[[str], Base], specs: Any) -> None:
    """PEFT reads what a packed trial left, and gives its logits."""
    base = load("nf4")
    resources = GivenBench(torch.device("cpu")).given(base, DATA, HELDOUT)
    made = specs("training.max_steps=4")
    runs, records = through(resources, made)
    ids = DATA[0].ids[None]
    base.model.eval()
    fresh = load("nf4").model
    for spec in made:
        run = runs[spec.number]
        assert run.slot is not None
        with torch.no_grad(), PackedAdapters(base.model, [run.slot]):
            expected = base.model(input_ids=ids).logits.clone()
        loaded: Any = PeftModel.from_pretrained(fresh, str(spec.folder / "adapter"))
        with torch.no_grad():
            found = loaded(input_ids=ids).logits
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert records[spec.number].adapter_bytes == sum(
            (spec.folder / "adapter" / name).stat().st_size
            for name in ("adapter_model.safetensors", "adapter_config.json")
        )
        assert (
            records[spec.number].num_trainable_params
            == run.slot.num_params
            == sum(weight.numel() for name, weight in loaded.named_parameters() if "lora_" in name)
        )
        loaded.unload()


FUSED = "adapter.lora_key=true"  # where one matrix is query, key and value


def family_model(family: str) -> Any:
    """A random model of two layers, in 64 bits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = read_architecture(HubModel(name=family, architecture={"model_type": family, **SIZES[family]}))
        return AutoModelForCausalLM.from_config(config).double().requires_grad_(False)


@pytest.mark.parametrize("family", ["gpt2", "phi", "qwen2", "gpt_neox", "opt"])
def test_other_families(family: str, embedded_base: Base, specs: Any) -> None:
    """Transposed matrices, biases, and models that have dropout of their own, which is switched off here."""
    model = family_model(family)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    resources = GivenBench(torch.device("cpu")).given(embedded_base._replace(model=model), DATA, HELDOUT)
    made = specs("training.max_steps=3", FUSED, names=("rank 2, AdamW, cosine", "rank 4 again, unclipped, dropout"))
    runs, records = through(resources, made)
    for spec in made:
        assert_equals(runs[spec.number], records[spec.number], solo(model, spec, DATA, HELDOUT), 1e-12)


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_a_base_with_dropout_of_its_own_trains_one_trial_at_a_time(
    family: str, embedded_base: Base, specs: Any
) -> None:
    model = family_model(family)
    assert has_randomness(model)
    base = embedded_base._replace(model=model, draws_random_numbers=True)

    def run(names: Sequence[str]) -> Any:
        made = [replace(spec, seed=0) for spec in specs("training.max_steps=3", FUSED, names=names)]  # of like rows
        return through(GivenBench(torch.device("cpu")).given(base, DATA, HELDOUT), made)

    names = ("rank 2, AdamW, cosine", "rank 32, dropout")
    runs, records = run(names)
    assert [record.cohort for record in records.values()] == [[0], [1]]
    alone_runs, alone = run(names[1:])
    assert outcomes(runs, records, [1])[1] == outcomes(alone_runs, alone, [0])[0]


# slow: that checkpointing changes nothing is shown with texts, and with one image classifier in test_vision_trial.py
@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_mixed_cohort_of_image_classifiers_equals_every_trial_alone(
    vision_bench64: GivenBench, specs: Any, checkpointing: bool
) -> None:
    """Two trials join late, so that their windows hold more images than the others' where an epoch ends."""
    made = specs(*VISION, f"training.gradient_checkpointing={checkpointing}")
    late = [one for one in made if one.config.adapter.dropout][-2:]
    made = [one for one in made if one not in late] + late
    runs, records = through(vision_bench64, made, num_late=2)
    for spec in made:
        expected = solo_once(vision_bench64, spec)
        assert records[spec.number].status is Status.FINISHED, records[spec.number].reason
        assert_equals(runs[spec.number], records[spec.number], expected, 1e-12)


def test_dropout_where_a_layer_takes_all_rows_as_one(specs: Any, embedded_base: Base) -> None:
    """OPT's MLP reads a matrix of all tokens of the batch."""
    sizes: dict[str, Any] = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = OPTConfig(**sizes, vocab_size=128, word_embed_proj_dim=32, max_position_embeddings=64, dropout=0.0)
    config.use_cache = False
    model = OPTForCausalLM(config).double().requires_grad_(False)
    resources = GivenBench(torch.device("cpu")).given(embedded_base._replace(model=model), DATA, HELDOUT)
    made = specs("adapter.lora_mlp=true", names=("rank 32, dropout", "rank 4 again, unclipped, dropout", "few steps"))
    runs, records = through(resources, made)
    for spec in made:
        assert_equals(runs[spec.number], records[spec.number], solo(model, spec, DATA, HELDOUT), 1e-12)


class Killed(BaseException):
    """Takes the process away in the middle of a step."""


def test_a_cohort_that_is_killed_goes_on_to_the_same_end(
    bench64: GivenBench, specs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints after every step; killed in the forward of step 5, and again of step 9, then run to the end."""
    bench64.checkpoint_seconds = 0.0
    made = specs()
    real = module_code.compute_window_shares
    for num_calls in (2 * 4 + 1, 2 * 4):  # two micro-batches a step
        calls: list[int] = []

        def dying(*arguments: Any, calls: list[int] = calls, most: int = num_calls) -> Tensor:
            calls.append(1)
            if len(calls) > most:
                raise Killed
            return real(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(module_code, "compute_window_shares", dying)
            with pytest.raises(Killed):
                through(bench64, made)
    kept = [spec.number for spec in made if (spec.folder / "checkpoint.pt").exists()]
    assert len(kept) >= 7
    runs, records = through(bench64, made)
    for spec in made:
        assert_equals(runs[spec.number], records[spec.number], solo_once(bench64, spec), 1e-12)
        assert not (spec.folder / "checkpoint.pt").exists()


def test_a_checkpoint_of_another_trial_is_left_alone(bench64: GivenBench, specs: Any) -> None:
    (made,) = specs(names=["few steps"])
    cohort = Cohort(bench64, ignore, no_words, 1)
    assert cohort.admit(made) is None
    run = cohort.trials[0]
    run.step = 2
    write_checkpoint(run)
    other = replace(made, seed=made.seed + 1)
    for spec, step in ((made, 2), (other, 0)):
        again = Cohort(bench64, ignore, no_words, 1)
        assert again.admit(spec) is None
        assert again.trials[0].step == step
