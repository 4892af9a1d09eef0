"""One trial for a Lightning Trainer of the user's own: what it trains, and on what."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from lightning.pytorch import LightningDataModule

from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Batch
from sweeplab.data.images import ImageBatch
from sweeplab.evaluation.heldout import HeldoutLosses
from sweeplab.multilora.batches import CohortBatch, iterate_cohort_batches
from sweeplab.records.record import Status, TrainPoint
from sweeplab.runtime.device import resolve_device
from sweeplab.runtime.errors import ConfigError, refuse
from sweeplab.training.attached_cohort import AttachedCohort, attach_cohort, gradient_checkpointing
from sweeplab.training.fit import prepare_random_state
from sweeplab.training.module import FinetuneModule, sum_row_losses
from sweeplab.training.optimizers import evaluation_weights
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial.beginning import begin_trial
from sweeplab.trial.resources import Resources
from sweeplab.trial.scoring import save_trained_weights


class BuiltTrial(NamedTuple):
    """What `Trainer.fit` takes."""

    module: "TrialModule"
    data: "TrialData"


def build_trial(config: TrialConfig, seed: int = 0, device: str = "auto") -> BuiltTrial:
    """The module and the data of one trial: base loaded, adapter attached, examples tokenized.

    Fitted by a Trainer of one epoch on one device, it takes the steps that `python -m sweeplab` would take for the
    same configuration and seed, with the same losses. Raises `ConfigError` for what cannot run.

    >>> from lightning.pytorch import Trainer
    >>> from sweeplab import build_trial, compose_trial
    >>> config = compose_trial("model=tiny", "quantization=none", "adapter.rank=2", "training.max_steps=2")
    >>> module, data = build_trial(config, seed=1, device="cpu")
    >>> trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
    ...                   enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0)
    >>> trainer.fit(module, data)
    >>> trainer.global_step
    2
    >>> "heldout_loss_nats_per_token" in trainer.callback_metrics
    True
    """
    if config.training.num_devices > 1:
        raise ConfigError("training.num_devices must be 1 to build a trial; a Trainer of your own has its own strategy")
    for name, plain, theirs in (("keep", "last", "ModelCheckpoint"), ("patience", None, "EarlyStopping")):
        value = getattr(config.training, name)
        if value != plain:
            rule = "has no effect on a trial that is built, since a Trainer of your own decides when it is evaluated"
            raise refuse(f"training.{name}", rule, value, f"leave it out, and give the Trainer Lightning's {theirs}")
    resources = Resources(resolve_device(device))
    spec = TrialSpec(0, seed, {}, config, Path())
    trial = begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda number, step, metrics: None)
    return BuiltTrial(TrialModule(trial), TrialData(trial))


class TrialModule(FinetuneModule):
    """The LightningModule of one trial. `build_trial` makes it.

    It sets the Trainer's `accumulate_grad_batches` to `training.accumulation`, clips gradients itself and brings its
    optimizer and schedule. It logs `train_loss` (nats per target token of the step's window) and, from validation,
    `heldout_loss_nats_per_token`.
    """

    def __init__(self, trial: RunningTrial) -> None:
        super().__init__(trial.model, [trial], trial.training.accumulation)
        self._cohort = AttachedCohort([trial], None)
        self._stack, self._validation = ExitStack(), ExitStack()
        self._heldout = HeldoutLosses([], [])

    @property
    def losses(self) -> list[TrainPoint]:
        """Mean losses of every `training.log_interval` steps, as a record has them."""
        return self.trials[0].losses

    def setup(self, stage: str) -> None:
        """The adapter takes its place beside the base, until `teardown`."""
        (trial,) = self.trials
        self._cohort = self._stack.enter_context(attach_cohort([trial]))
        self.packed = self._cohort.packed
        self._stack.enter_context(gradient_checkpointing(trial.base, trial.training.gradient_checkpointing))

    def teardown(self, stage: str) -> None:
        """The base is as it was; the trained weights stay in this module."""
        self.packed, self._cohort = None, AttachedCohort(self.trials, None)
        self._stack.close()

    def on_fit_start(self) -> None:
        self.trainer.accumulate_grad_batches = self.accumulation

    def on_train_start(self) -> None:
        self.model.train()
        prepare_random_state(self.trials[0])

    def on_train_batch_end(self, outputs: Any, batch: CohortBatch, batch_idx: int) -> None:
        (trial,) = self.trials
        if trial.step_loss is not None:
            self.log("train_loss", trial.step_loss.loss, prog_bar=True, batch_size=1)
        self.trainer.should_stop = self.trainer.should_stop or trial.has_ended

    def on_validation_start(self) -> None:
        (trial,) = self.trials
        self._heldout = HeldoutLosses([], [])
        self._validation.enter_context(self._cohort.only([trial]))
        self._validation.enter_context(evaluation_weights(trial.optimizer))

    def validation_step(self, batch: Batch | ImageBatch, batch_idx: int) -> None:
        sums_B, counts_B = sum_row_losses(self.model, batch)
        self._heldout.sums.extend(sums_B.tolist())
        self._heldout.counts.extend(counts_B.tolist())

    def on_validation_epoch_end(self) -> None:
        if self._heldout.counts:
            self.log("heldout_loss_nats_per_token", self._heldout.mean, prog_bar=True, batch_size=1)

    def on_validation_end(self) -> None:
        self._validation.close()

    def save_adapter(self, folder: str | PathLike[str]) -> None:
        """Writes what was trained to `folder`/adapter, as a trial of a study does. Raises `StoreError`."""
        (trial,) = self.trials
        trial.spec = replace(trial.spec, folder=Path(folder))
        save_trained_weights(trial)


_Item = TypeVar("_Item")


class _Batches(Generic[_Item]):
    """Batches of a known number, made as they are asked for; torch's DataLoader would draw a random number first."""

    def __init__(self, make: Callable[[], Iterable[_Item]], num_batches: int) -> None:
        self.make = make
        self.num_batches = num_batches

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[_Item]:
        return islice(self.make(), self.num_batches)


class TrialData(LightningDataModule):
    """The examples of one trial as batches: to train on in the trial's own order, and held out. `build_trial` makes it.

    One epoch of the Trainer is the whole training, `training.max_steps` or `training.epochs` long.
    """

    def __init__(self, trial: RunningTrial) -> None:
        super().__init__()
        self._trial = trial

    def train_dataloader(self) -> _Batches[CohortBatch]:
        trial = self._trial
        num_batches = trial.num_steps * trial.windows.accumulation
        pad_id, multiple = trial.base.pad_id, trial.column_multiple
        return _Batches(lambda: iterate_cohort_batches([(trial.windows, 0)], pad_id, multiple=multiple), num_batches)

    def val_dataloader(self) -> _Batches[Batch | ImageBatch]:
        trial = self._trial
        base, batch_size = trial.base, trial.spec.config.evaluation.batch_size
        batches = trial.data.heldout_batches(base.pad_id, batch_size, base.growing_length)
        return _Batches(lambda: batches, len(batches))
