"""What is measured of one and of two layers, against passes of the whole model."""

import time
from typing import Any

import pytest
import torch

from sweeplab.adapters.attach import attach_adapter
from sweeplab.adapters.counting import build_skeleton
from sweeplab.config.model import HubModel
from sweeplab.config.trial import TrialConfig
from sweeplab.planning import speed
from sweeplab.planning.lengths import DataExtent
from sweeplab.planning.speed import PassSeconds, measure_passes
from sweeplab.runtime.device import PlannedDevice
from tests.planning.conftest import CPU, CUDA
from tests.trials import Compose

SIZES: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
}
EXTENT = DataExtent(64, 40, 32.0, 20, 0, measured=True)


def compose(compose_trial: Compose, *overrides: str) -> TrialConfig:
    config = compose_trial("quantization=none", "training.micro_batch_size=4", *overrides)
    return config.replaced(model=HubModel(name="small", random_init=True, architecture=SIZES))


@pytest.mark.slow  # it compares times, for which nothing else may run
def test_two_layers_say_what_eight_take(compose_trial: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(compose_trial)
    monkeypatch.setattr(speed, "_WHOLE_PARAMS", 0)
    found = measure_passes(config, build_skeleton(config.model), EXTENT, CPU, 1)
    assert found is not None
    model: Any = speed._build(config, 8, torch.float32)
    trained = attach_adapter(model, config.adapter, config.model, 0)
    ids = torch.randint(2, 64, (4, 32))
    labels = ids.clone()
    labels[:, :16] = -100

    def fastest(with_gradient: bool) -> float:
        times = []
        for _ in range(6):
            started = time.process_time()
            with torch.set_grad_enabled(with_gradient):
                loss = trained(input_ids=ids, labels=labels).loss  # transformers' own
            if with_gradient:
                loss.backward()
            times.append(time.process_time() - started)
        return min(times[1:]) / ids.numel()

    assert found.train == pytest.approx(fastest(True), rel=0.4)
    assert found.evaluate == pytest.approx(fastest(False), rel=0.4)


@pytest.mark.parametrize(
    ("device", "overrides", "most"),
    [(CUDA, (), 10**9), (CPU, ("training.micro_batch_size=8",), 1000)],
    ids=["on a GPU", "layers too large"],
)
def test_what_cannot_be_measured_in_a_second_is_not(
    compose_trial: Compose,
    monkeypatch: pytest.MonkeyPatch,
    device: PlannedDevice,
    overrides: tuple[str, ...],
    most: int,
) -> None:
    monkeypatch.setattr(speed, "_MOST_PARAMS", most)
    monkeypatch.setattr(speed, "_WHOLE_PARAMS", 0)
    config = compose(compose_trial, *overrides)
    assert measure_passes(config, build_skeleton(config.model), EXTENT, device, 1) is None


def test_the_measured_batch_is_the_mean_one_up_to_a_bound() -> None:
    assert speed._make_batch(4, 32, 0.5).ids_BT.shape == (4, 32)
    assert speed._make_batch(64, 100, 0.5).ids_BT.shape == (10, 100)
    assert speed._make_batch(4, 3000, 0.5).ids_BT.shape == (1, 3000)
    assert int((speed._make_batch(4, 32, 0.25).labels_BT >= 0).sum()) == 4 * 8
    assert int((speed._make_batch(4, 32, 1.0).labels_BT >= 0).sum()) == 4 * 31  # the first token is predicted by none


def test_of_another_adapter_only_training_is_measured_again(compose_trial: Compose) -> None:
    config = compose(compose_trial)
    known = PassSeconds(1.0, 2.0, 3.0, 4.0)
    found = measure_passes(config, build_skeleton(config.model), EXTENT, CPU, 1, known=known)
    assert found is not None
    assert found[1:] == known[1:]
    assert 0 < found.train < known.train


def test_four_bit_layers_stay_as_they_were_quantized(compose_trial: Compose) -> None:
    """bitsandbytes would repack them without gradients, and refuse to where a side is no multiple of 32."""
    from bitsandbytes.nn.modules import Linear4bit

    config = compose_trial("quantization=nf4")
    layers = [one for one in speed._build(config, 1, torch.float32).modules() if isinstance(one, Linear4bit)]
    assert layers
    assert not any(one.support_avx512bf16_for_cpu for one in layers)
