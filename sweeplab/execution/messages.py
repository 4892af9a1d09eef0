"""A trial as a message: one JSON object, no pickle."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweeplab.config.trial import trial_config_from_dict
from sweeplab.execution.link import Message


def spec_to_dict(number: int, seed: int, params: dict[str, Any], config: Any, folder: Path) -> Message:
    """A `TrialSpec` as a message; the driver has no torch, so it does not have the class."""
    return {"number": number, "seed": seed, "params": params, "config": asdict(config), "folder": str(folder)}


def spec_fields(message: Message) -> Message:
    """The keyword arguments of `TrialSpec`."""
    config, folder = trial_config_from_dict(message["config"]), Path(message["folder"])
    return message | {"config": config, "folder": folder}
