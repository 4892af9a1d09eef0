"""Trials for measuring: random weights of a known shape, random tokens of chosen lengths, sweeplab's own training."""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hydra import initialize_config_dir

from experiments.benchmarks.gpu.cases import NotMeasured, free_memory
from sweeplab.adapters.counting import build_skeleton
from sweeplab.config.compose import trial_config
from sweeplab.config.conf import CONF
from sweeplab.config.data import TextData
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Row, Tokenized
from sweeplab.data.packing import pack_examples
from sweeplab.data.tokens import Tokens
from sweeplab.models.base import Base
from sweeplab.planning.lengths import DataExtent
from sweeplab.planning.phases import MemoryForecast, forecast_memory
from sweeplab.records.record import Status, TrialRecord
from sweeplab.runtime.device import plan_device, resolve_device
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial.beginning import begin_trial
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.resources import Resources

LLAMA_7B: Final = ("model=llama2_7b", "model.random_init=true")
LLAMA_13B: Final = ("model=llama2_13b", "model.random_init=true")
PHI: Final = ("model=phi_1_5", "model.random_init=true")
ALL: Final = tuple(f"adapter.lora_{toggle}=true" for toggle in ("query", "key", "value", "projection", "mlp", "head"))
# the rate moves neither memory nor time: a small one keeps random weights from diverging
PLAIN: Final = (
    "optimizer=adamw",
    "adapter=lora",
    "adapter.rank=8",
    "schedule=constant",
    "evaluation=none",
    "evaluation.batch_size=1",
    "training.micro_batch_size=1",
    "training.max_steps=2",
    "training.log_interval=1",
)
RATE: Final = "optimizer.lr=1e-5"


@dataclass
class Laboratory(Resources):
    """A workbench whose examples have the lengths that the next trial is to see, in tokens that are all targets."""

    lengths: list[int] = field(default_factory=list)

    @classmethod
    def on(cls, device: str, cohort_size: int) -> "Laboratory":
        return cls(resolve_device(device), cohort_size=cohort_size)

    def tokens_for(self, config: TrialConfig, base: Base) -> Tokenized:
        examples = random_tokens(self.lengths, int(base.model.config.vocab_size))
        packing = isinstance(config.data, TextData) and config.data.packing
        rows: Sequence[Row] = pack_examples(examples, config.training.max_length) if packing else examples
        longest = max(examples, key=lambda one: one.num_tokens)
        return Tokenized(rows, [longest], 0, "random", num_examples=len(rows))


def random_tokens(lengths: Sequence[int], vocab_size: int) -> list[Tokens]:
    made = []
    for place, length in enumerate(lengths):
        ids = random.Random(place).choices(range(2, vocab_size), k=length)
        made.append(Tokens(ids, ids))
    return made


def config_of(shape: Sequence[str], *overrides: str) -> TrialConfig:
    """A trial on a base of `shape`, a later override taking the place of an earlier one of the same key."""
    chosen = {one.partition("=")[0]: one for one in (*shape, *PLAIN, *overrides, RATE)}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return trial_config(list(chosen.values()), {})


def measured_trials(
    lab: Laboratory, config: TrialConfig, lengths: list[int], seeds: Sequence[int], folder: Path
) -> list[TrialRecord]:
    """Records of the trials of these seeds, as many at once as the laboratory says. Raises `NotMeasured`."""
    lab.lengths = lengths
    free_memory()  # what the last trial left to Python's collector would count as this one's
    specs = [TrialSpec(seed, seed, {}, config, folder / str(seed)) for seed in seeds]
    said: list[str] = []
    records = sorted(run_cohort(specs, lab, lambda *_: None, said.append, list), key=lambda record: record.number)
    for record in records:
        if record.status is not Status.FINISHED:
            raise NotMeasured(record.status.value, f"in phase {record.phase}: {record.reason}")
    if said:
        raise NotMeasured("failed", said[0])
    return records


def measured_trial(lab: Laboratory, config: TrialConfig, lengths: list[int]) -> TrialRecord:
    """The record of one trial. Raises `NotMeasured`."""
    with tempfile.TemporaryDirectory() as folder:
        (record,) = measured_trials(lab, config, lengths, [0], Path(folder))
    return record


def begun(lab: Laboratory, config: TrialConfig, lengths: list[int], seeds: Sequence[int]) -> list[RunningTrial]:
    """Trials ready for their first step."""
    lab.lengths = lengths
    free_memory()
    specs = [TrialSpec(seed, seed, {}, config, Path()) for seed in seeds]
    return [begin_trial(spec, spec.new_record(Status.FAILED), lab, lambda *_: None) for spec in specs]


def planned(config: TrialConfig, length: int, device: str) -> MemoryForecast:
    """What `action=plan` says of the trial, all of whose examples have `length` tokens."""
    extent = DataExtent(None, length, length, length - 1, None, measured=False)
    return forecast_memory(config, build_skeleton(config.model), extent, plan_device(device, config.training.precision))
