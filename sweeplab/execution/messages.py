"""What driver and worker say to each other: one JSON object a line, no pickle."""

import json
from pathlib import Path
from typing import IO, Any

from sweeplab.config.parse import trial_config_from_dict

Message = dict[str, Any]


def line_of(kind: str, **content: Any) -> str:
    return json.dumps({"kind": kind, **content}) + "\n"


def send(stream: IO[str], kind: str, **content: Any) -> None:
    stream.write(line_of(kind, **content))
    stream.flush()


def receive(line: str) -> Message:
    message: Message = json.loads(line)
    return message


def spec_to_dict(number: int, seed: int, params: dict[str, Any], config: Any, folder: Path) -> Message:
    """A `TrialSpec` as a message; the driver has no torch, so it does not have the class."""
    return {"number": number, "seed": seed, "params": params, "config": config.to_dict(), "folder": str(folder)}


def spec_fields(message: Message) -> Message:
    """The keyword arguments of `TrialSpec`."""
    config, folder = trial_config_from_dict(message["config"]), Path(message["folder"])
    return message | {"config": config, "folder": folder}
