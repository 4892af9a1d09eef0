"""Shared rooms: composed configurations, small models and the embedded base. Everything runs on one thread."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import initialize_config_dir
from transformers import LlamaConfig, LlamaForCausalLM

from sweeplab.config.compose import trial_config
from sweeplab.config.conf import CONF
from sweeplab.config.model import EmbeddedModel
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.models.base import Base, load_base
from sweeplab.records.record import TrialRecord
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources
from tests.configs import quantize

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"

Compose = Callable[..., TrialConfig]
SpecFactory = Callable[..., TrialSpec]
LlamaFactory = Callable[..., LlamaForCausalLM]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # several cost these small models time, and on a busy machine six times as much


@pytest.fixture(autouse=True)
def _same_random_state() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def compose_trial() -> Compose:
    """The `TrialConfig` that Hydra makes of `conf/` and overrides, as a study would."""

    def make(*overrides: str, **params: Any) -> TrialConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return trial_config(list(overrides), params)

    return make


@pytest.fixture
def make_spec(compose_trial: Compose, tmp_path: Path) -> SpecFactory:
    """A trial of a few steps on the embedded base; overrides come last."""

    def make(number: int, *overrides: str, seed: int = 0) -> TrialSpec:
        short = (
            "training.max_steps=4",
            "training.micro_batch_size=4",
            "training.log_interval=1",
            "training.precision=float32",
            "data.num_examples=40",
            "evaluation.limit=6",
        )
        chosen = {one.partition("=")[0]: one for one in (*short, *overrides)}
        return TrialSpec(number, seed, {}, compose_trial(*chosen.values()), tmp_path / f"{number:05d}")

    return make


@pytest.fixture
def resources() -> Resources:
    return Resources(torch.device("cpu"))


def no_words(text: str) -> None:
    raise AssertionError(f"nothing was to be said: {text}")


def run_alone(
    spec: TrialSpec, resources: Resources, observe: Callable[[int, int, dict[str, float]], None] = lambda *_: None
) -> TrialRecord:
    """The record of a cohort of one."""
    (record,) = run_cohort([spec], resources, observe, no_words, list)
    return record


def embedded(scheme: str, double: bool) -> Base:
    model = EmbeddedModel(name="tiny_base")
    return load_base(model, quantize(scheme, double), torch.float32, torch.device("cpu"))


@pytest.fixture(scope="session")
def embedded_base() -> Base:
    """The embedded base in 32 bits; a test that changes it must change it back."""
    return embedded("none", False)


@pytest.fixture(scope="session")
def nf4_base() -> Base:
    """The embedded base in NF4 with double quantization; a test that changes it must change it back."""
    return embedded("nf4", True)


def small_llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A random Llama of two layers, in 64 bits, so that rounding hides nothing."""
    sizes: dict[str, Any] = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
        "use_cache": False,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**(sizes | changes))).double()


@pytest.fixture
def tiny_llama() -> LlamaFactory:
    return small_llama


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no folder shared/data beside the checkout")
    return SHARED_DATA
