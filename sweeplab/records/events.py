"""What `action=watch` says to programs, one JSON object a line: its schema.

`python -m sweeplab.records.events > docs/watch.schema.json`
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from sweeplab.records.json_schema import write_schema
from sweeplab.records.section import Section, key

EVENT_VERSION: Final = 1


class RunningNow(Section):
    """A trial that trains."""

    number: int = key("its number")
    label: str = key("its number, setting and seed in words")
    since: float = key("when it began", unit="Unix time, s")
    fraction: float = key("share of its steps that are done")
    loss: float | None = key("last training loss that was reported; null: none yet")


class StudyEvent(Section):
    """How far a study is: the first line, then one whenever that has changed. The last one is of state ended."""

    event: Literal["study"] = key("what the line is")
    version: int = key("version of this schema; a reader refuses a larger one")
    time: float = key("when this was seen", unit="Unix time, s")
    study: str = key("name of the study")
    state: Literal["running", "running elsewhere", "stopped", "ended"] = key(
        "running elsewhere: on another machine, as far as the files say; stopped: the command goes on with it"
    )
    command: str = key("what starts the study, or goes on with it")
    num_ended: int = key("trials that have a record")
    num_planned: int | None = key("trials in all; null: not known, as in a race")
    by_status: dict[str, int] = key("trials that have a record, by status: finished, diverged, failed, ...")
    seconds_left: float | None = key("estimate of the driver; null: not known", unit="s")
    doing: list[str] = key("what each worker does, in words")
    running: list[RunningNow] = key("trials that train")


class TrialEvent(Section):
    """A trial has ended. Those that ended before come first."""

    event: Literal["trial"] = key("what the line is")
    version: int = key("version of this schema; a reader refuses a larger one")
    time: float = key("when its record was written", unit="Unix time, s")
    study: str = key("name of the study")
    number: int = key("its number")
    seed: int = key("its seed")
    params: dict[str, Any] = key("its values of what the study varies, by dotted key")
    status: str = key("how it ended: finished, diverged, failed, ...")
    reason: str | None = key("why, where it did not finish")
    values: dict[str, float | None] = key("its values of the study's objectives; null: none")


WatchEvent = Annotated[StudyEvent | TrialEvent, Field(discriminator="event")]


def write_event_schema() -> str:
    return write_schema(WatchEvent)


if __name__ == "__main__":
    print(write_event_schema(), end="")
