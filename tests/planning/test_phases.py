"""Whole moments of a trial against the bytes of all live tensors of a real step, on models large enough to show."""

from typing import Final

import pytest
import torch

from sweeplab.adapters.counting import build_skeleton
from sweeplab.config.adapter import LoraAdapter, LowRankAdapter
from sweeplab.config.trial import TrialConfig
from sweeplab.data.batches import Batch
from sweeplab.data.images import ImageBatch
from sweeplab.logits import states
from sweeplab.multilora.dropout import Extent
from sweeplab.planning.phases import MemoryForecast, forecast_memory
from sweeplab.training.module import sum_target_losses
from tests.planning.conftest import CPU, bound
from tests.planning.live import LiveBytes
from tests.planning.models import LAYERS, PATCHES, QV, SIDE, built, planned, planned_images
from tests.trials import Compose

BATCH: Final = 2
LENGTH: Final = 96


def batch(vocab_size: int, num_targets: int) -> Batch:
    """Rows of `LENGTH` tokens, one with padding; the last `num_targets` of each count."""
    ids = torch.randint(2, vocab_size, (BATCH, LENGTH))
    mask = torch.ones_like(ids)
    mask[0, 0] = 0
    labels = ids.clone()
    labels[:, :-num_targets] = -100
    return Batch(ids, mask, labels, ids.numel(), BATCH * num_targets)


def toggled(config: TrialConfig) -> bool:
    return isinstance(config.adapter, LowRankAdapter)


def live_step(config: TrialConfig, examples: Batch | ImageBatch) -> dict[str, int]:
    """Highest live bytes of the second step's moments, weights of the base left out."""
    columns = PATCHES if isinstance(examples, ImageBatch) else LENGTH
    one = built(config, torch.float32, Extent(BATCH, columns))
    model, trained = one.model, one.trained
    with LiveBytes([*model.parameters(), *trained, *one.gradients]) as live:
        optimizer = torch.optim.AdamW(trained, lr=1e-3)
        found: dict[str, int] = {}
        for _ in range(2):  # the first one makes the optimizer's states
            live.highest()
            loss = sum_target_losses(model, examples)
            found["forward"] = live.highest()
            if config.training.accumulation == 1:
                one.zero_gradients()
                live.highest()
            loss.backward()
            del loss
            found["backward"] = live.highest()
            optimizer.step()
            found["step"] = live.highest()
    weights = one.adapter_bytes if toggled(config) else 0  # else they are the base's
    return {moment: size + weights for moment, size in found.items()}


def forecast(config: TrialConfig, num_targets: int) -> MemoryForecast:
    extent = bound(PATCHES if config.data.is_images() else LENGTH)._replace(most_targets=num_targets)
    return forecast_memory(config, build_skeleton(config.model), extent, CPU)


def predicted(config: TrialConfig, num_targets: int) -> dict[str, int]:
    """The same moments of the plan; loss and layers are both the backward pass."""
    moments = forecast(config, num_targets).moments()
    apart = ("base_weights_bytes", "process_bytes")
    sums = {name: parts.total_bytes - sum(getattr(parts, one) for one in apart) for name, parts in moments.items()}
    return {"forward": sums["forward"], "backward": max(sums["loss"], sums["backward"]), "step": sums["step"]}


@pytest.mark.parametrize(
    ("model_type", "toggles", "vocab_size", "num_targets", "overrides"),
    [  # slow: more of what the others have: two updates as one, a rank by name, checkpointing, families alike
        ("llama", QV, 4000, 95, ()),  # the loss is highest
        ("llama", QV, 4000, 10, ()),  # the prompt masked
        ("llama", (*QV, "head"), 4000, 95, ()),  # an adapted head's gradients wait for the backward
        ("llama", QV, 64, 95, ()),  # the last layer is
        ("llama", LAYERS, 500, 95, ("adapter.rank=64",)),  # last step's gradients under the forward pass
        pytest.param("llama", LAYERS, 500, 95, ("adapter.rank=64", "training.accumulation=2"), marks=pytest.mark.slow),
        ("llama", LAYERS, 64, 95, ("adapter.rank=33",)),  # a bucket's rank is 64
        pytest.param(
            "llama", LAYERS, 64, 95, ("adapter.rank=33", "+adapter.lr_pattern={q_proj: 0.5}"), marks=pytest.mark.slow
        ),  # by matrix: not padded
        pytest.param("llama", LAYERS, 64, 95, ("+adapter.rank_pattern={q_proj: 129}",), marks=pytest.mark.slow),
        ("llama", LAYERS, 64, 95, ("adapter.budget=600000",)),  # rank 53
        pytest.param("llama", QV, 64, 95, ("training.gradient_checkpointing=true",), marks=pytest.mark.slow),
        ("llama", QV, 4000, 95, ("training.gradient_checkpointing=true",)),
        pytest.param("llama", (), 500, 95, (), marks=pytest.mark.slow),
        pytest.param("phi", QV, 64, 95, (), marks=pytest.mark.slow),
        ("phi", LAYERS, 4000, 95, ()),
        pytest.param("qwen3", LAYERS, 500, 95, (), marks=pytest.mark.slow),
        ("mixtral", LAYERS, 500, 95, ()),  # experts in one tensor
        ("mixtral", LAYERS, 500, 95, ("adapter.rank=64",)),
    ],
)
def test_every_moment_is_what_stands_in_memory(
    compose_trial: Compose,
    model_type: str,
    toggles: tuple[str, ...],
    vocab_size: int,
    num_targets: int,
    overrides: tuple[str, ...],
) -> None:
    config = planned(compose_trial, model_type, toggles, *overrides, batch=BATCH, vocab_size=vocab_size)
    live = live_step(config, batch(vocab_size, num_targets))
    plan = predicted(config, num_targets)
    for moment in ("forward", "backward"):
        assert plan[moment] == pytest.approx(live[moment], rel=0.05), moment
    assert plan["step"] == pytest.approx(live["step"], rel=0.12)


@pytest.mark.parametrize(("toggles", "rank"), [(QV, 8), (LAYERS, 33)])
def test_dora_keeps_both_products_that_it_scales(compose_trial: Compose, toggles: tuple[str, ...], rank: int) -> None:
    config = planned(compose_trial, "llama", toggles, f"adapter.rank={rank}", batch=BATCH, vocab_size=64)
    assert isinstance(config.adapter, LoraAdapter)
    config = config.replaced(adapter=config.adapter.replaced(dora=True))
    live, plan = live_step(config, batch(64, 95)), predicted(config, 95)
    for moment in ("forward", "backward"):
        assert plan[moment] == pytest.approx(live[moment], rel=0.05), moment


@pytest.mark.parametrize(
    ("toggles", "overrides", "tolerance"),
    [
        (QV, (), 0.06),
        ((*LAYERS, "head"), (), 0.09),  # the gradient of what query, key and value read stands once
        (LAYERS, ("adapter.rank=64",), 0.03),
        ((), (), 0.03),
        (QV, ("training.gradient_checkpointing=true",), 0.28),  # its MLP needs less in work than one that is gated
    ],
)
def test_every_moment_of_an_image_classifier(
    compose_trial: Compose, toggles: tuple[str, ...], overrides: tuple[str, ...], tolerance: float
) -> None:
    config = planned_images(compose_trial, toggles, *overrides, batch=BATCH)
    images = ImageBatch(torch.randn(BATCH, 1, SIDE, SIDE), torch.tensor([1, 2]), BATCH * PATCHES, BATCH)
    live, plan = live_step(config, images), predicted(config, 1)
    for moment, size in plan.items():
        assert size == pytest.approx(live[moment], rel=tolerance), moment


def test_the_peak_is_the_highest_moment_not_the_sum_of_all(compose_trial: Compose) -> None:
    config = planned(compose_trial, "llama", QV, batch=BATCH, vocab_size=4000)
    memory = forecast(config, 95)
    assert memory.training_moment == "forward"
    assert memory.training == memory.forward
    assert memory.needed_bytes == max(parts.total_bytes for parts in memory.moments().values())


def test_evaluation_has_room_for_the_adapter_that_is_saved(compose_trial: Compose) -> None:
    """Rank 33 stands in slots of rank 64: weights, gradients and two states; what is saved has rank 33."""
    config = planned(compose_trial, "llama", LAYERS, "adapter.rank=33", batch=1, vocab_size=64)
    features = 4 * (128 + 128 + 2 * (128 + 64) + 128 + 128 + 3 * (128 + 352))  # query, key and value, projection, MLP
    parts = forecast(config.replaced(evaluation=config.evaluation.replaced(batch_size=1)), 95).evaluation
    assert parts.logits_bytes + parts.workspace_bytes == 4 * 33 * features
    assert parts.adapter_bytes == parts.gradients_bytes == parts.optimizer_bytes // 2 == 4 * 64 * features


def test_kept_weights_stand_beside_those_that_train(compose_trial: Compose) -> None:
    """As many bytes as one of the gradients, at every moment from the beginning."""
    for toggles in (LAYERS, ()):
        last = planned(compose_trial, "llama", toggles, "adapter.rank=33", batch=1, vocab_size=64)
        best = last.replaced(training=last.training.replaced(keep="best"))
        before, after = forecast(last, 95), forecast(best, 95)
        assert after.load == before.load
        assert before.step.gradients_bytes > 0
        for name in ("forward", "loss", "backward", "step", "evaluation"):
            more = after.moments()[name].total_bytes - before.moments()[name].total_bytes
            assert more == before.step.gradients_bytes, name


def test_what_has_to_fit_counts_evaluation_and_loading(compose_trial: Compose) -> None:
    config = planned(compose_trial, "llama", QV, "evaluation.batch_size=64", batch=BATCH, vocab_size=4000)
    memory = forecast(config, 95)
    assert memory.highest_phase == "evaluate"
    assert memory.needed_bytes == memory.evaluation.total_bytes > memory.training.total_bytes
    config = config.replaced(quantization=compose_trial("quantization=nf4").quantization)
    assert forecast(config, 95).load.workspace_bytes == 2 * 4 * 128 * 352
    config = config.replaced(model=config.model.replaced(random_init=False))
    assert forecast(config, 95).load.workspace_bytes == 4 * build_skeleton(config.model).num_params


@pytest.mark.parametrize("num_targets", [95, 40])
@pytest.mark.parametrize("vocab_size", [4000, 8000])
def test_the_moments_of_a_loss_in_chunks(
    compose_trial: Compose, monkeypatch: pytest.MonkeyPatch, vocab_size: int, num_targets: int
) -> None:
    monkeypatch.setattr(states, "_CHUNK_BYTES", 1 << 20)
    config = planned(compose_trial, "llama", QV, batch=BATCH, vocab_size=vocab_size)
    live, plan = live_step(config, batch(vocab_size, num_targets)), predicted(config, num_targets)
    for moment in ("forward", "backward"):
        assert plan[moment] == pytest.approx(live[moment], rel=0.05), moment
