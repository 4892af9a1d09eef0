"""One trial in a process of its own, and the plan for it: `one.py NAME DATA default|returning|tensors`; prints JSON."""

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
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.planning.forecast import Forecaster
from sweeplab.records.record import Solo, Status, TrialRecord
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial.lifecycle import Cohort, begin_trial, run_cohort
from sweeplab.trial.measurement import _SMALLEST_MAPPING_BYTES, read_resident_bytes, return_freed_memory
from sweeplab.trial.profile import measure_solo
from sweeplab.trial.resources import Resources
from sweeplab.trial.tensor_count import count_tensors


class _NamedPhases(Cohort):
    """A cohort whose phases have names in the count of tensors."""

    def fit(self, trials: Sequence[RunningTrial]) -> None:
        with record_function("train"):
            super().fit(trials)

    def evaluate(self, trials: Sequence[RunningTrial]) -> None:
        with record_function("evaluate"):
            super().evaluate(trials)


def _measure_solo(spec: TrialSpec, executor: LocalWorkers) -> Solo | None:
    """What a record has of the trial from before it trains."""
    resources = Resources.open(executor)
    return measure_solo(begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda *_: None), resources)


def _count_tensors(spec: TrialSpec, executor: LocalWorkers) -> tuple[TrialRecord, dict[str, Any]]:
    """The bytes of all tensors in a trial's phases, counted from before its base on, beside what its record has."""
    solo = _measure_solo(spec, executor)
    assert solo is not None
    records: list[TrialRecord] = []
    with count_tensors() as count:
        resources = Resources.open(executor)
        cohort = _NamedPhases(resources, lambda *_: None, print, 1)
        cohort.trials.append(begin_trial(spec, spec.new_record(Status.FAILED), resources, lambda *_: None))
        while not records:
            records = cohort.advance()
    peaks = {"train": solo.peak_allocated_bytes, "evaluate": solo.evaluation_peak_allocated_bytes}
    return records[0], {"tensor_bytes": {phase: count.peak_bytes(phase) for phase in peaks}, "solo_bytes": peaks}


def _measure_resident(spec: TrialSpec, executor: LocalWorkers, freed: str) -> tuple[TrialRecord, dict[str, Any]]:
    """The highest resident set in a trial's phases, beside what was resident before its base."""
    resources = Resources.open(executor)
    if freed == "returning":
        return_freed_memory()
        resources.returned_from_bytes = _SMALLEST_MAPPING_BYTES
    before = read_resident_bytes("VmRSS")
    (record,) = run_cohort([spec], resources, lambda number, step, metrics: None, print, list)
    measured = {phase: found.peak_resident_bytes for phase, found in record.phases.items()}
    return record, {"resident_before_bytes": before, "measured_bytes": measured}


def main() -> None:
    name, data, how = sys.argv[1:]
    executor = LocalWorkers(device="cpu", num_threads=1, num_workers=1, cohort_size=1, on_out_of_memory="skip")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = geometry(name, Path(data))
    with tempfile.TemporaryDirectory() as folder:
        spec = TrialSpec(0, 0, {}, config, Path(folder))
        record, values = _count_tensors(spec, executor) if how == "tensors" else _measure_resident(spec, executor, how)
    values |= {
        "status": record.status.value,
        "reason": record.reason,
        "provenance": record.provenance,
        "plan": Forecaster(executor).forecast(config).to_dict(),
    }
    print(json.dumps(values))


if __name__ == "__main__":
    main()
