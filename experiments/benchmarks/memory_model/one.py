"""One trial in a process of its own, and the plan for it: `one.py NAME DATA default|returning`; prints JSON."""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.update({"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"})

import bitsandbytes  # noqa: F401  # a library, so part of what stands before the base
from hydra import initialize_config_dir
from torch.profiler import record_function

from experiments.benchmarks.memory_model.geometries import geometry
from sweeplab.config.conf import CONF
from sweeplab.config.executor import LocalWorkers
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.planning.forecast import Forecaster
from sweeplab.records.record import Status, TrialRecord
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial.beginning import begin_trial
from sweeplab.trial.lifecycle import Cohort, run_cohort
from sweeplab.trial.measurement import _SMALLEST_MAPPING_BYTES, read_resident_bytes, return_freed_memory
from sweeplab.trial.resources import Resources
from sweeplab.trial.tensor_count import count_tensors

EXECUTOR = LocalWorkers(device="cpu", num_threads=1, num_workers=1, cohort_size=1, on_out_of_memory="skip")


class _NamedPhases(Cohort):
    """A cohort whose phases have names in the count of tensors."""

    def fit(self, trials: Sequence[RunningTrial]) -> None:
        with record_function("train"):
            super().fit(trials)

    def evaluate(self, trials: Sequence[RunningTrial]) -> None:
        with record_function("evaluate"):
            super().evaluate(trials)


def count_trial(name: str, data: Path) -> dict[str, Any]:
    """The bytes of all tensors in a trial's phases, counted from before its base on, and the plan for it.

    Its own measurement before training is left out: counts do not nest.
    """
    config, records = geometry(name, data), list[TrialRecord]()
    with tempfile.TemporaryDirectory() as folder:
        spec = TrialSpec(0, 0, {}, config, Path(folder))
        with count_tensors() as count:
            resources = Resources.open(EXECUTOR)
            cohort = _NamedPhases(resources, lambda *_: None, print, 1)
            cohort.trials.append(begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda *_: None))
            while not records:
                records = cohort.advance()
        resources.forget_base()
    peaks = {phase: count.peak_bytes(phase) for phase in ("train", "evaluate")}
    return _describe(records[0], config) | {"tensor_bytes": peaks}


def _describe(record: TrialRecord, config: TrialConfig) -> dict[str, Any]:
    return {
        "status": record.status.value,
        "reason": record.reason,
        "provenance": record.provenance,
        "plan": Forecaster(EXECUTOR).forecast(config).to_dict(),
    }


def _measure_resident(name: str, data: Path, freed: str) -> dict[str, Any]:
    """The highest resident set in a trial's phases, beside what was resident before its base, and the plan for it."""
    config, resources = geometry(name, data), Resources.open(EXECUTOR)
    if freed == "returning":
        return_freed_memory()
        resources.returned_from_bytes = _SMALLEST_MAPPING_BYTES
    before = read_resident_bytes("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        spec = TrialSpec(0, 0, {}, config, Path(folder))
        (record,) = run_cohort([spec], resources, lambda number, step, metrics: None, print, list)
    measured = {phase: found.peak_resident_bytes for phase, found in record.phases.items()}
    return _describe(record, config) | {"resident_before_bytes": before, "measured_bytes": measured}


def main() -> None:
    name, data, freed = sys.argv[1:]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        print(json.dumps(_measure_resident(name, Path(data), freed)))


if __name__ == "__main__":
    main()
