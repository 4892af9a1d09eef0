"""One trial to run, from the search that asks for it to the record that it leaves."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sweeplab.config.shared_base import geometry, why_exclusive
from sweeplab.config.trial import TrialConfig, trial_config_from_dict
from sweeplab.records.record import Status, TrialRecord


@dataclass(frozen=True)
class TrialSpec:
    """One trial to run: a resolved configuration and a seed."""

    number: int  # in the study, from 0
    seed: int
    params: dict[str, Any]  # what the study varies, by key
    config: TrialConfig
    folder: Path  # where its checkpoint, items, adapter and record lie

    @cached_property
    def geometry(self) -> dict[str, Any] | None:
        """What the trials of its cohort have in common with it; None where it must train alone."""
        return geometry(self.config) if why_exclusive(self.config) is None else None

    def new_record(self, status: Status, reason: str | None = None) -> TrialRecord:
        """The record of this trial, with nothing measured yet."""
        return TrialRecord(self.number, status, self.seed, self.params, asdict(self.config), reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        config, folder = asdict(self.config), str(self.folder)
        return {"number": self.number, "seed": self.seed, "params": self.params, "config": config, "folder": folder}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialSpec":
        """The trial that `to_dict` described. Raises `KeyError` or `TypeError` for other values."""
        config, folder = trial_config_from_dict(values["config"]), Path(values["folder"])
        return cls(values["number"], values["seed"], values["params"], config, folder)
