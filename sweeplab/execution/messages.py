"""What driver and worker say to each other: one JSON object a line, no pickle."""

import json
from typing import IO, Any

Message = dict[str, Any]


def line_of(kind: str, **content: Any) -> str:
    return json.dumps({"kind": kind, **content}) + "\n"


def send(stream: IO[str], kind: str, **content: Any) -> None:
    stream.write(line_of(kind, **content))
    stream.flush()


def receive(line: str) -> Message:
    message: Message = json.loads(line)
    return message
