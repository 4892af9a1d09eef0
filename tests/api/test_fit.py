"""A trial that a Trainer of the user's own fits, against the record of the same trial, number by number."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from sweeplab import build_trial
from sweeplab.records.record import Status
from sweeplab.runtime.errors import ConfigError
from sweeplab.trial.resources import Resources
from tests.trials import Compose, SpecFactory, run_alone

CASES = {
    "LoRA, quantized, with dropout": ("adapter.dropout=0.2", "quantization=nf4_dq"),
    "windows of three micro-batches": ("training.accumulation=3", "training.micro_batch_size=2"),
    "epochs with a smaller last window": ("training.max_steps=null", "training.epochs=2", "data.num_examples=10"),
    "weights of the base": ("adapter=norms",),
    "DoRA, which draws by itself": ("adapter.dora=true", "adapter.dropout=0.2"),
    "checkpointed": ("training.gradient_checkpointing=true", "adapter.dropout=0.1"),
    "schedule-free": ("optimizer=schedule_free", "schedule=constant"),
}
# slow: the others take the same way through the Trainer; these have a quantized base and draws, a smaller last window,
# and an optimizer that has two sets of weights
TELLING = ("LoRA, quantized, with dropout", "epochs with a smaller last window", "schedule-free")


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return make_trainer(tmp_path)


def make_trainer(folder: Path, **changes: Any) -> Trainer:
    """A user's, with what would write files and print switched off."""
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings = {"max_epochs": 1, "accelerator": "cpu", "enable_model_summary": False, "default_root_dir": folder}
    return Trainer(**(quiet | settings | changes))


@pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training")
@pytest.mark.parametrize(
    "overrides", [pytest.param(CASES[one], id=one, marks=() if one in TELLING else pytest.mark.slow) for one in CASES]
)
def test_the_losses_are_those_of_the_study_s_trial(
    overrides: tuple[str, ...], make_spec: SpecFactory, resources: Resources, trainer: Trainer
) -> None:
    spec = make_spec(0, "quantization=none", *overrides, seed=3)
    record = run_alone(spec, resources)
    assert record.status is Status.FINISHED, record.reason
    module, data = build_trial(spec.config, seed=3, device="cpu")
    trainer.fit(module, data)
    assert trainer.global_step == record.step
    assert module.losses == record.losses
    assert len({point.loss for point in module.losses}) > 1
    logged = trainer.callback_metrics
    assert logged["heldout_loss_nats_per_token"] == torch.tensor(record.heldout_loss_nats_per_token)


@pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training")
def test_the_adapter_that_it_saves_is_the_study_s(
    make_spec: SpecFactory, resources: Resources, trainer: Trainer, tmp_path: Path
) -> None:
    spec = make_spec(0, "adapter.rank=4", seed=1)
    run_alone(spec, resources)
    module, data = build_trial(spec.config, seed=1, device="cpu")
    trainer.fit(module, data)
    module.save_adapter(str(tmp_path / "mine"))
    first, second = (
        load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (spec.folder, tmp_path / "mine")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(weight.abs().max() > 0 for name, weight in first.items() if "lora_B" in name)


@pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training")
def test_validation_alone_gives_the_loss_of_the_base(make_spec: SpecFactory, trainer: Trainer) -> None:
    """A fresh adapter changes nothing, and validation in the middle of an epoch leaves the training as it is."""
    config = make_spec(0, "adapter.dora=true", "adapter.dropout=0.2").config
    module, data = build_trial(config, device="cpu")
    trainer.validate(module, data, verbose=False)
    before = trainer.callback_metrics["heldout_loss_nats_per_token"]
    fresh = build_trial(config, device="cpu")
    trainer.validate(fresh.module, fresh.data, verbose=False)
    assert trainer.callback_metrics["heldout_loss_nats_per_token"] == before
    trainer.fit(module, data)
    often = make_trainer(Path(trainer.default_root_dir), val_check_interval=1)
    often.fit(fresh.module, fresh.data)
    assert fresh.module.losses == module.losses
    assert often.callback_metrics["heldout_loss_nats_per_token"] < before


def test_what_a_trainer_of_one_s_own_decides_is_refused(compose_trial: Compose) -> None:
    asked = ("training.heldout_interval=2", "training.max_steps=20")
    with pytest.raises(ConfigError, match=r"^training\.keep has no effect .* Lightning's ModelCheckpoint$"):
        build_trial(compose_trial(*asked, "training.keep=best"))
    with pytest.raises(ConfigError, match=r"^training\.patience has no effect .* Lightning's EarlyStopping$"):
        build_trial(compose_trial(*asked, "training.patience=2"))


def test_several_devices_are_refused(compose_trial: Compose) -> None:
    config = compose_trial("training.strategy=ddp", "training.num_devices=2")
    with pytest.raises(ConfigError, match=r"^training\.num_devices must be 1"):
        build_trial(config)
