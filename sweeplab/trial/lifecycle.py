"""The life of trials on one page: base -> adapter -> training; `scoring` has what comes after.

Trials of one geometry train together on one base; a lone trial is a cohort of one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything
from torch import nn

from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.adapters.lora import describe_adapter_layers
from sweeplab.config.shared_base import takes_vectors, why_exclusive
from sweeplab.config.training import TrainingConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Windows
from sweeplab.evaluation.heldout import measure_heldout_loss
from sweeplab.models.base import Base
from sweeplab.multilora.batches import CohortBatch, cohort_batches, longest_batch
from sweeplab.multilora.dropout import Extent
from sweeplab.multilora.packed import Packed
from sweeplab.multilora.slots import Slot, lora_matrices, lora_weights
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import write_bytes
from sweeplab.runtime.process_group import ONE_PROCESS, Ranks
from sweeplab.runtime.provenance import describe_provenance
from sweeplab.training.checkpoints import checkpoint, restore, set_random_states
from sweeplab.training.fit import fit_until_one_ends
from sweeplab.training.module import FinetuneModule, target_loss_sum
from sweeplab.training.optimizers import evaluation_weights, rate_factor
from sweeplab.training.trial_state import Member, build_member
from sweeplab.trial.measurement import measured
from sweeplab.trial.resources import Resources, Tokenized

# trial number, optimizer step, metrics by name -> None, or why the trial is to stop here
Observe = Callable[[int, int, dict[str, float]], str | None]
Choose = Callable[[Sequence["Run"]], AbstractContextManager[None]]  # within it the model is that of these trials


ScoreRung = Callable[[Sequence["Run"], Packed | None, Resources], None]  # runs at a rung, in the order of their rows


@dataclass(eq=False)
class Run:
    """A trial on its way, from its adapter to its record."""

    spec: TrialSpec
    record: TrialRecord
    base: Base
    data: Tokenized
    model: nn.Module  # the base where the adapter is in a slot, else the base as its method changed it
    slot: Slot | None
    windows: Windows
    member: Member

    @property
    def checkpoint_path(self) -> Path:
        return self.spec.folder / "checkpoint.pt"

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must be of to be this trial's."""
        prints = {"base": self.base.fingerprint, "data": self.data.fingerprint}
        return {"config": asdict(self.spec.config), "seed": self.spec.seed, **prints}

    def keep(self) -> None:
        """Writes a checkpoint."""
        write_bytes(self.checkpoint_path, checkpoint(self.member, self.identity()))


def longest_micro_batch(runs: Sequence[Run], ranks: Ranks) -> CohortBatch:
    """What needs the most time and memory of a cohort."""
    return longest_batch([run.windows for run in runs], runs[0].base.pad_id, ranks)


def num_steps(training: TrainingConfig, num_windows: int) -> int:
    """Optimizer steps of the training: `max_steps`, or all windows of all epochs."""
    return training.max_steps if training.max_steps is not None else training.epochs * num_windows


def peak_rate(config: TrialConfig, name: str) -> float:
    """The highest learning rate that the parameter `name` sees."""
    return float(config.optimizer["lr"]) * rate_factor(name, config.adapter.lr_pattern, config.adapter.lr_ratio)


def load(spec: TrialSpec, resources: Resources, record: TrialRecord) -> tuple[Base, Tokenized]:
    """The trial's base and data, loaded only where the last trial had others. Raises `ConfigError`."""
    record.phase = "load"
    with measured(record.phases, "load", resources.device):
        base = resources.base_for(spec.config)
        data = resources.tokens_for(spec.config, base)
    record.provenance = describe_provenance(resources.device, base.fingerprint, data.fingerprint)
    return base, data


def begin(spec: TrialSpec, resources: Resources, record: TrialRecord, observe: Observe) -> Run:
    """The trial with a fresh adapter, ready to train. Raises `ConfigError`."""
    base, data = load(spec, resources, record)
    record.num_train_examples = data.num_examples
    record.num_truncated, record.num_dropped = data.num_truncated, data.num_dropped
    record.num_heldout_truncated = data.num_heldout_truncated
    model = attach_adapter(base.model, spec.config.adapter, spec.config.model, spec.seed)
    record.num_trainable_params = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    record.num_total_params, record.base_bits_per_param = base.num_params, base.bits_per_param
    record.adapter_layers = describe_adapter_layers(model, lambda name: peak_rate(spec.config, name))
    slot = None
    if why_exclusive(spec.config) is None:
        slot = Slot(lora_matrices(model), lora_weights(model), spec.seed, takes_vectors(spec.config))
        model = detach_adapter(model)
    training = spec.config.training
    windows = Windows(data.train, training.micro_batch_size, training.accumulation, spec.seed)
    steps = num_steps(training, windows.num_per_epoch)
    member = member_of(spec, model, slot, steps, observe, resources.trial_seconds)
    return Run(spec, record, base, data, model, slot, windows, member)


def go_on_from_checkpoint(run: Run) -> None:
    """Puts a fresh trial where it was last kept, if it was. Raises `CheckpointError`; the trial is not fresh then."""
    if run.checkpoint_path.exists():
        restore(run.member, run.checkpoint_path.read_bytes(), run.identity())


def member_of(
    spec: TrialSpec,
    model: nn.Module,
    slot: Slot | None,
    steps: int,
    observe: Observe,
    most_seconds: float | None = None,
) -> Member:
    """What the trial owns in training."""
    trained = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
    config = spec.config
    return build_member(
        slot.parameters.items() if slot else trained,
        config.optimizer,
        config.schedule,
        config.adapter.lr_pattern,
        config.adapter.lr_ratio,
        steps,
        gradient_clip=config.training.gradient_clip,
        log_interval=config.training.log_interval,
        heldout_interval=config.training.heldout_interval,
        observe=lambda step, metrics: observe(spec.number, step, metrics | {"num_steps": steps}),
        most_seconds=most_seconds,
    )


@contextmanager
def together(runs: Sequence[Run], ranks: Ranks = ONE_PROCESS) -> Iterator[tuple[list[Run], Packed | None]]:
    """The runs in the order of their rows, on one base, which is as it was afterwards."""
    slots = [run.slot for run in runs if run.slot is not None]
    if not slots:
        yield list(runs), None
        return
    assert all(run.model is runs[0].base.model for run in runs), "trials that train together stand on one base"
    with Packed(runs[0].base.model, slots, ranks) as packed:
        yield sorted(runs, key=lambda run: [slot is run.slot for slot in packed.slots].index(True)), packed


def choosing(packed: Packed | None) -> Choose:
    if packed is None:
        return lambda runs: nullcontext()
    return lambda runs: packed.only([run.slot for run in runs if run.slot is not None])


@contextmanager
def checkpointed(base: Base, on: bool) -> Iterator[None]:
    """Within it activations are computed again in the backward instead of being kept."""
    if on:
        base.model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        if on:
            base.model.gradient_checkpointing_disable()
            base.model.disable_input_require_grads()  # the hook on the embedding that transformers leaves behind


def train(runs: Sequence[Run], resources: Resources, score: ScoreRung | None = None) -> None:
    """Trains until at least one of the runs has ended; `score` is called where `evaluation.rung_tasks` are due."""
    training, base, model = runs[0].spec.config.training, runs[0].base, runs[0].model
    with together(runs, resources.ranks) as (ordered, packed), checkpointed(base, training.gradient_checkpointing):
        members = [run.member for run in ordered]

        def begin_micro_step(batch: CohortBatch, place: int) -> None:
            assert packed is not None
            extents = [Extent(share.num_rows, share.num_columns) for share in batch.shares]
            packed.begin(extents, [member.step * training.accumulation + place for member in members])

        run_of = {id(run.member): run for run in ordered}

        def measure_heldout(member: Member) -> float:
            run = run_of[id(member)]
            with choosing(packed)([run]), evaluation_weights(member.optimizer):
                return loss_of(run, resources)

        def score_rung(due: list[Member]) -> None:
            assert score is not None
            score([run_of[id(member)] for member in due], packed, resources)

        module = FinetuneModule(
            model,
            members,
            training.accumulation,
            packed.zero_gradients if packed else model.zero_grad,
            begin_micro_step if packed else lambda batch, place: None,
            resources.ranks,
        )
        batches = cohort_batches([(run.windows, run.member.step) for run in ordered], base.pad_id, resources.ranks)
        model.train()
        if len(runs) == 1:
            set_random_state(runs[0])
        fit_until_one_ends(
            module,
            batches,
            measure_heldout,
            score_rung if score is not None and runs[0].spec.config.evaluation.rung_tasks else None,
            lambda member: run_of[id(member)].keep(),
            resources.checkpoint_seconds if resources.ranks.is_first else None,
            resources.device,
        )


def set_random_state(run: Run) -> None:
    """For what a method or a base draws by itself, such as its dropout."""
    if run.member.step == 0:
        seed_everything(run.spec.seed, verbose=False)
    elif run.member.random_states is not None:
        set_random_states(run.member.random_states, run.member.parameters[0].device)
        run.member.random_states = None


def loss_on(data: Tokenized, model: nn.Module, base: Base, config: TrialConfig, resources: Resources) -> float:
    """The held-out loss of `model`, which is `base` or stands on it, as it is."""
    batches = data.heldout_batches(base.pad_id, config.evaluation.batch_size)
    return measure_heldout_loss(model, batches, target_loss_sum, resources.device)


def loss_of(run: Run, resources: Resources) -> float:
    """The held-out loss of the model as it stands."""
    return loss_on(run.data, run.model, run.base, run.spec.config, resources)
