"""Training through Lightning against a plain loop that takes one example at a time, in 64 bits."""

import math
import re
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from sweeplab.adapters.attach import attach_adapter
from sweeplab.config.trial import TrialConfig
from sweeplab.data.batches import Windows, collate_tokens
from sweeplab.data.tokens import IGNORED, Tokens
from sweeplab.models.base import Base
from sweeplab.records.record import TrialRecord
from sweeplab.runtime.process_group import ONE_PROCESS
from sweeplab.training import fit
from sweeplab.training.attached_cohort import gradient_checkpointing
from sweeplab.training.module import FinetuneModule, sum_target_losses
from tests.training.conftest import SEED, examples


def example_loss_sum(model: nn.Module, tokens: Tokens) -> Tensor:
    """-log p summed over the response by log_softmax: no padding, no mask, no batch."""
    logits = model(input_ids=tokens.ids[None]).logits[0]
    log_probs = F.log_softmax(logits, dim=-1)
    targets = [(t, label) for t, label in enumerate(tokens.labels.tolist()) if t and label != IGNORED]
    return -sum((log_probs[t - 1, label] for t, label in targets), torch.zeros(()))


def num_targets(tokens: Tokens) -> int:
    return sum(label != IGNORED for label in tokens.labels[1:].tolist())


def cosine_with_warmup(step: int, num_steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))


class Trained(NamedTuple):
    weights: dict[str, Tensor]
    losses: list[float]  # of every step
    rates: list[float]


def hand_loop(model: nn.Module, windows: list[list[Tokens]], config: TrialConfig, warmup: int) -> Trained:
    """A plain loop: mean loss per target token of each window, norm clipped by hand, cosine with warmup by hand."""
    settings = config.optimizer.to_dict()
    kind = getattr(torch.optim, settings.pop("_target_").rpartition(".")[2])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = kind(weights, **settings)
    losses, rates = [], []
    model.train()
    for step, window in enumerate(windows):
        optimizer.zero_grad()
        total = sum((example_loss_sum(model, tokens) for tokens in window), torch.zeros(()))
        loss = total / sum(num_targets(tokens) for tokens in window)
        loss.backward()
        clip = config.training.gradient_clip
        norm = math.sqrt(sum(float(weight.grad.square().sum()) for weight in weights if weight.grad is not None))
        if clip is not None and norm > clip:
            for weight in weights:
                assert weight.grad is not None
                weight.grad *= clip / (norm + 1e-6)
        rates.append(settings["lr"] * cosine_with_warmup(step, len(windows), warmup))
        optimizer.param_groups[0]["lr"] = rates[-1]
        optimizer.step()
        losses.append(loss.item())
    return Trained(trainable(model), losses, rates)


def trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def windows_of(data: list[Tokens], config: TrialConfig, epochs: int) -> list[list[Tokens]]:
    windows = Windows(data, config.training.micro_batch_size, config.training.accumulation, SEED)
    return [[data[index] for index in window] for epoch in range(epochs) for window in windows.order_epoch(epoch)]


OPTIMIZERS = {
    "adamw": ("optimizer=adamw", "optimizer.lr=0.01"),
    "sgd": ("optimizer=sgd", "optimizer.lr=0.1", "optimizer.weight_decay=0.01"),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("accumulation", "clip"), [(1, "null"), (3, "null"), (3, "0.05")])
def test_training_equals_a_hand_loop(
    new_model: Any, train: Any, compose_trial: Any, optimizer: str, accumulation: int, clip: str
) -> None:
    config = compose_trial(
        *OPTIMIZERS[optimizer],
        f"training.accumulation={accumulation}",
        f"training.gradient_clip={clip}",
        "training.micro_batch_size=2",
        "training.epochs=3",
        "training.log_interval=2",
        "schedule.warmup_steps=2",
    )
    data = examples(11, seed=1)  # windows of 6 and 5: the last one holds micro-batches of 2, 2 and 1
    windows = windows_of(data, config, epochs=3)
    assert len(windows) == 3 * math.ceil(11 / (2 * accumulation))
    model, by_hand = new_model(), new_model()
    start = trainable(model)
    record = train(model, data, config)
    expected = hand_loop(by_hand, windows, config, warmup=2)
    assert record.step == len(windows)
    found = trainable(model)
    assert found.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-10, msg=name)
    assert not any(torch.equal(found[name], start[name]) for name in found)
    check_curve(record, expected)


def check_curve(record: TrialRecord, expected: Trained) -> None:
    """Points every two steps and at the end, each the mean of the steps since the last one."""
    num_steps = len(expected.losses)
    steps = [step for step in range(1, num_steps + 1) if step % 2 == 0 or step == num_steps]
    assert [point.step for point in record.losses] == steps
    for before, point in zip([0, *steps], record.losses, strict=False):
        since = expected.losses[before : point.step]
        assert point.loss == pytest.approx(sum(since) / len(since), rel=0, abs=1e-10)
        assert point.lr == pytest.approx(expected.rates[point.step - 1], rel=1e-12)
    told = [(step, values["train_loss"]) for step, values in record.params["told"] if "train_loss" in values]
    assert told == [(point.step, point.loss) for point in record.losses]


def test_curves_tokens_and_the_last_rate(new_model: Any, train: Any, compose_trial: Any) -> None:
    config = compose_trial(
        "training.accumulation=2", "training.micro_batch_size=2", "training.epochs=3", "training.log_interval=1",
        "training.heldout_interval=4", "schedule.end_factor=0.1", "schedule.warmup_steps=0",
    )  # fmt: skip
    data = examples(11, seed=1)
    model, copy = new_model(), new_model()
    record = train(model, data, config)
    assert record.step == 9
    assert record.num_train_tokens == 3 * sum(len(tokens.ids) for tokens in data)  # no padding
    # the ninth step takes the rate before the end; the end itself is reached when every step is done
    assert record.losses[-1].lr == pytest.approx(0.003 * (0.1 + 0.9 * (1 + math.cos(math.pi * 8 / 9)) / 2), rel=1e-12)
    assert [point.step for point in record.heldout_losses] == [4, 8]
    windows = windows_of(data, config, epochs=3)
    half = config.replaced(training=config.training.replaced(max_steps=9))
    heldout = examples(5, seed=9)
    with_schedule(copy, windows[:4], half, 9)
    measured = sum(example_loss_sum(copy.eval(), tokens).item() for tokens in heldout) / sum(map(num_targets, heldout))
    assert record.heldout_losses[0].loss == pytest.approx(measured, rel=1e-9)


def with_schedule(model: nn.Module, windows: list[list[Tokens]], config: TrialConfig, num_steps: int) -> None:
    """The first windows of a longer cosine that ends at a tenth, with the clipping of conf."""
    settings = config.optimizer.arguments()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, **settings)
    for step, window in enumerate(windows):
        optimizer.zero_grad()
        total = sum((example_loss_sum(model, tokens) for tokens in window), torch.zeros(()))
        (total / sum(map(num_targets, window))).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.param_groups[0]["lr"] = settings["lr"] * (0.1 + 0.9 * (1 + math.cos(math.pi * step / num_steps)) / 2)
        optimizer.step()


def test_the_rate_reaches_its_end_when_every_step_is_done(
    new_model: Any, train: Any, compose_trial: Any, monkeypatch: Any
) -> None:
    rates = []

    plain_step = LambdaLR.step

    def watched(self: LambdaLR) -> None:
        plain_step(self)
        rates.append(self.get_last_lr()[0])

    monkeypatch.setattr(LambdaLR, "step", watched)
    config = compose_trial(
        "optimizer.lr=0.25", "training.accumulation=3", "training.micro_batch_size=2", "training.epochs=2",
        "schedule.end_factor=0.125", "schedule.warmup_steps=1",
    )  # fmt: skip
    train(new_model(), examples(11, seed=1), config)
    expected = [0.25 * (0.125 + 0.875 * (1 + math.cos(math.pi * p / 3)) / 2) for p in (0, 0, 1, 2, 3)]
    assert rates == pytest.approx(expected, rel=1e-12)  # before the first step, and after each of the four


def test_padding_and_company_do_not_change_a_loss(tiny_llama: Any) -> None:
    model, data = tiny_llama(), examples(6, seed=2)
    apart = sum(example_loss_sum(model, tokens) for tokens in data)
    for pad in (0, 77):
        together = sum_target_losses(model, collate_tokens(data, pad, 0))
        torch.testing.assert_close(together, apart, rtol=1e-12, atol=0)


def test_a_model_in_16_bits_is_scored_in_32(tiny_llama: Any) -> None:
    model, batch = tiny_llama().bfloat16(), collate_tokens(examples(6, seed=2), 0, 0)
    loss = sum_target_losses(model, batch)
    logits = model(input_ids=batch.ids_BT, attention_mask=batch.mask_BT).logits.double()
    exact = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels_BT[:, 1:].flatten(), reduction="sum")
    assert loss.dtype is torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(3)
    model.train()
    sum_target_losses(model, collate_tokens(examples(4, seed=3), 0, 0)).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_gradient_checkpointing_gives_identical_gradients_and_is_gone_afterwards(
    tiny_llama: Any, embedded_base: Base, make_spec: Any
) -> None:
    found, num_forwards = {}, {}
    for checkpointing in (False, True):
        base = embedded_base._replace(model=tiny_llama().requires_grad_(False))
        calls: list[int] = []
        base.model.model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        spec = make_spec(0, "adapter.dropout=0.25", "adapter.lora_mlp=true")
        model = attach_adapter(base.model, spec.config.adapter, spec.config.model, spec.seed)
        with gradient_checkpointing(base, checkpointing):
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(len(name)))
            found[checkpointing], num_forwards[checkpointing] = gradients(model), len(calls)
        assert not base.model.is_gradient_checkpointing
        assert not base.model.get_input_embeddings()(torch.tensor([[3]])).requires_grad  # no hook is left behind
    assert num_forwards == {False: 1, True: 2}
    assert found[False].keys() == found[True].keys()
    assert all(torch.equal(found[True][name], found[False][name]) for name in found[False])


def test_a_loss_that_is_no_number_ends_the_training_with_its_step(
    new_model: Any, train: Any, compose_trial: Any
) -> None:
    config = compose_trial(
        "optimizer=sgd", "optimizer.lr=1e200", "training.gradient_clip=null", "schedule.warmup_steps=0"
    )
    record = train(new_model(), examples(40, seed=1), config)
    assert record.step is not None
    assert 0 < record.step < 30
    assert re.fullmatch(rf"the training loss became (nan|inf) after {record.step} steps", str(record.reason))


def test_the_base_stays_where_it_is(tiny_llama: Any) -> None:
    """Lightning moves a module to the CPU once it is fitted, and held-out losses come after that."""
    module = FinetuneModule(tiny_llama(), [], 1)
    for moved in (module.to("meta"), module.cpu(), module.half()):
        assert moved is module
    assert {(weight.device.type, weight.dtype) for weight in module.parameters()} == {("cpu", torch.float64)}


@pytest.mark.parametrize(
    ("checkpoint_seconds", "steps"),
    [
        (None, []),
        (0, list(range(1, 41))),
        (5, [5, 25]),  # writing took 1 s: the next 20 s later
        (30, [30]),
    ],
)
def test_checkpoints_take_a_twentieth_of_the_time_at_most(
    checkpoint_seconds: float | None, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = [0.0], []

    def write(trial: Any) -> None:
        written.append(trial.step)
        now[0] += 1

    trial = SimpleNamespace(early_end=None, step=0, heldout_is_due=False, scores_are_due=False, has_ended=False)
    trial.add_seconds = lambda seconds: None
    monkeypatch.setattr(fit, "write_checkpoint", write)
    monkeypatch.setattr("sweeplab.training.fit.time.monotonic", lambda: now[0])
    cohort: Any = SimpleNamespace(trials=[trial])
    watch = fit._Watch(cohort, torch.device("cpu"), ONE_PROCESS, checkpoint_seconds, None)
    for step in range(1, 41):
        now[0] += 1
        trial.step = step
        watch.on_train_batch_end(SimpleNamespace(global_step=step, should_stop=False), None, None, None, 0)  # type: ignore[arg-type]
    assert written == steps
