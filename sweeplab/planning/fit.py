"""Judges whether a trial fits into `plan.device_memory`, and records those that are skipped because they do not."""

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from sweeplab.config.sizes import num_bytes
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.record import Status, TrialRecord

if TYPE_CHECKING:
    from sweeplab.planning.phases import MemoryForecast

_GB: Final = 1e9
# the worst of the geometries in reports/benchmarks/memory_model, and of Llama's published peaks in
# tests/planning/test_published.py, lie within it
UNCERTAINTY: Final = 0.2


class Fit(StrEnum):
    """A prediction of P bytes with uncertainty u against M bytes of memory."""

    FITS = "fits"  # P (1 + u) <= M
    UNCERTAIN = "uncertain"
    DOES_NOT_FIT = "does not fit"  # P / (1 + u) > M


def judge_fit(needed_bytes: int, memory_bytes: int) -> Fit:
    if needed_bytes * (1 + UNCERTAINTY) <= memory_bytes:
        return Fit.FITS
    return Fit.DOES_NOT_FIT if needed_bytes / (1 + UNCERTAINTY) > memory_bytes else Fit.UNCERTAIN


def read_device_memory(config: StudyConfig) -> int | None:
    """Bytes of `plan.device_memory`."""
    text = config.plan.device_memory
    return None if text is None else num_bytes("plan.device_memory", text)


def _describe_shortage(memory: "MemoryForecast", memory_bytes: int) -> str:
    return (
        f"needs {memory.needed_bytes / _GB:.3g} GB (predicted, ± {100 * UNCERTAINTY:.0f} %) in its phase "
        f"{memory.highest_phase}, more than plan.device_memory={memory_bytes / _GB:.3g} GB"
    )


class MemoryGate:
    """Skips trials that will not fit, where a study asks for it; what is uncertain runs.

    Asked for, it imports torch into the driver, for the models' shapes on the meta device.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.memory_bytes = read_device_memory(config) if config.plan.skip_unfit else None
        if self.memory_bytes is not None:
            from sweeplab.planning.forecast import Forecaster

            self.forecaster = Forecaster(config.executor)

    def skipped(self, spec: TrialSpec) -> TrialRecord | None:
        """The record of a trial that does not fit; None for one that should run. Raises `ConfigError`."""
        if self.memory_bytes is None:
            return None
        memory = self.forecaster.memory(spec.config)
        if judge_fit(memory.needed_bytes, self.memory_bytes) is not Fit.DOES_NOT_FIT:
            return None
        return spec.new_record(Status.SKIPPED, _describe_shortage(memory, self.memory_bytes))
