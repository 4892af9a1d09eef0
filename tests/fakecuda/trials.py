"""Trials for the fake GPU: one or two layers as wide as a 7B's, so that each takes a few seconds of one core."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from unittest import mock

import sweeplab.trial.profile as profile
import sweeplab.trial.scoring as scoring
from experiments.benchmarks.gpu.trials import LLAMA_7B, Laboratory, begun, config_of
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import TrialRecord
from sweeplab.training.fit import fit_until_one_ends
from sweeplab.training.module import _CohortOptimizer
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.profile import prepare_longest_pass
from tests.fakecuda.device import on_fake_cuda
from tests.fakecuda.meter import Meter

TWO_LAYERS: Final = (*LLAMA_7B, "model.architecture.num_hidden_layers=2")
ONE_LAYER: Final = (*LLAMA_7B, "model.architecture.num_hidden_layers=1")
NARROW: Final = (
    *ONE_LAYER,
    "model.architecture.hidden_size=64",
    "model.architecture.intermediate_size=96",
    "model.architecture.num_attention_heads=2",
    "model.architecture.num_key_value_heads=2",
    "model.architecture.vocab_size=512",
)
LAYERS: Final = tuple(f"adapter.lora_{one}=true" for one in ("query", "key", "value", "projection", "mlp"))
DQ: Final = "quantization=nf4_dq"


def count_micro_batch(configs: Sequence[TrialConfig], lengths: Sequence[int], padded: bool = False) -> Meter:
    """What forward and backward of a micro-batch of these trials, with rows of these lengths each, launch and await."""
    with on_fake_cuda(padded=padded) as meter:
        lab = Laboratory.on("cuda", cohort_size=1)
        trials = [begun(lab, config, list(lengths), [number])[0] for number, config in enumerate(configs)]
        with prepare_longest_pass(trials, lab) as work:
            meter.reset()
            work()  # a tensor on the wrong device raises FakeTensorDeviceMismatchError here
    return meter


def measure_step(config: TrialConfig, lengths: Sequence[int], count: int) -> Counter[str]:
    """The waits of a whole optimizer step, its micro-batches, logging and what else is due included, of so many trials
    at once: from the beginning of their second to that of their third, when all states are there."""
    marks: list[Counter[str]] = []
    own = _CohortOptimizer.step

    def step(self: _CohortOptimizer, closure: Any = None) -> Any:
        marks.append(meter.waits.copy())
        return own(self, closure)

    with on_fake_cuda(padded=len(set(lengths)) > 1) as meter, mock.patch.object(_CohortOptimizer, "step", step):
        lab = Laboratory.on("cuda", cohort_size=count)
        trials = begun(lab, config, list(lengths), range(count))
        fit_until_one_ends(trials, lab.device)
        assert all(trial.step == config.training.max_steps for trial in trials)
    return marks[2] - marks[1]


def compose(shape: Sequence[str], lengths: Sequence[int], *overrides: str) -> TrialConfig:
    """A trial whose micro-batches have rows of these lengths."""
    size, longest = f"training.micro_batch_size={len(lengths)}", f"training.max_length={max(lengths)}"
    return config_of(shape, size, longest, *overrides)


def _save_adapter(model: object, folder: Path) -> int:
    """In the place of `adapters.attach.save_adapter`: there are no values to save."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").touch()
    return 0


def run_trials(lab: Laboratory, config: TrialConfig, folder: Path, count: int) -> list[TrialRecord]:
    """The records of so many trials, by number."""
    specs = [TrialSpec(number, 0, {}, config, folder / "trials" / str(number)) for number in range(count)]
    patches = (
        mock.patch.object(scoring, "save_adapter", _save_adapter),
        mock.patch.object(profile, "_NUM_TIMED_STEPS", 1),
    )
    with patches[0], patches[1]:
        records = list(run_cohort(specs, lab, lambda *_: None, print, list))
    return sorted(records, key=lambda record: record.number)
