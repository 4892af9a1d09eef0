"""One trial in a process of its own, and the plan for it: `one.py NAME DATA default|returning`; prints JSON."""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.update({"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"})

import bitsandbytes  # noqa: F401  # a library, so part of what stands before the base
from hydra import initialize_config_dir

from experiments.benchmarks.memory_model.geometries import geometry
from sweeplab.config.conf import CONF
from sweeplab.config.executor import LocalWorkers
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.planning.forecast import Forecaster
from sweeplab.trial.lifecycle import run_cohort
from sweeplab.trial.measurement import _SMALLEST_MAPPING_BYTES, read_resident_bytes, return_freed_memory
from sweeplab.trial.resources import Resources


def main() -> None:
    name, data, freed = sys.argv[1:]
    if freed == "returning":
        return_freed_memory()
    executor = LocalWorkers(device="cpu", num_threads=1, num_workers=1, cohort_size=1, on_out_of_memory="skip")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = geometry(name, Path(data))
    resources = Resources.open(executor)
    if freed == "returning":
        resources.returned_from_bytes = _SMALLEST_MAPPING_BYTES
    before = read_resident_bytes("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        spec = TrialSpec(0, 0, {}, config, Path(folder))
        (record,) = run_cohort([spec], resources, lambda number, step, metrics: None, print, list)
    forecast = Forecaster(executor).forecast(config)
    measured = {phase: found.peak_resident_bytes for phase, found in record.phases.items()}
    values = {
        "status": record.status.value,
        "reason": record.reason,
        "resident_before_bytes": before,
        "measured_bytes": measured,
        "provenance": record.provenance,
        "plan": forecast.to_dict(),
    }
    print(json.dumps(values))


if __name__ == "__main__":
    main()
