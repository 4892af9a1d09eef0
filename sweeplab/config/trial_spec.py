"""One trial to run, from the search that asks for it to the record that it leaves."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sweeplab.config.parse import trial_config_from_dict
from sweeplab.config.shared_base import geometry, why_exclusive
from sweeplab.config.trial import TrialConfig
from sweeplab.records.record import Status, TrialRecord


@dataclass(frozen=True)
class TrialSpec:
    """One trial to run: a resolved configuration and a seed."""

    number: int  # in the study, from 0
    seed: int
    params: dict[str, Any]  # what the study varies, by key
    config: TrialConfig
    folder: Path  # where its checkpoint, items, adapter and record lie
    fingerprints: dict[str, str] = field(default_factory=dict)  # of what earlier trials read under the same names
    refusal: str | None = None  # why it cannot run; its configuration is then the experiment's, without `params`

    @cached_property
    def geometry(self) -> dict[str, Any] | None:
        """What the trials of its cohort have in common with it; None where it must train alone."""
        return geometry(self.config) if why_exclusive(self.config) is None else None

    def new_record(self, status: Status, reason: str | None = None) -> TrialRecord:
        """The record of this trial, with nothing measured yet."""
        return TrialRecord(self.number, status, self.seed, self.params, self.config.to_dict(), reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "number": self.number,
            "seed": self.seed,
            "params": self.params,
            "config": self.config.to_dict(),
            "folder": str(self.folder),
            "fingerprints": self.fingerprints,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialSpec":
        """The trial that `to_dict` described. Raises `KeyError`, `TypeError` or `ConfigError` for other values."""
        config, folder = trial_config_from_dict(values["config"]), Path(values["folder"])
        return cls(values["number"], values["seed"], values["params"], config, folder, values["fingerprints"])
