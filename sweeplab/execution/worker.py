"""The worker process: holds the base model, runs cohorts, reports. Started as `python -m sweeplab.execution.worker`.

Lines in: `open` once, then a `cohort` at a time, after each `ended` a `join` with what takes its place, and where the
study prunes after each `observed` with a held-out loss a `verdict`. Lines out: `observed`, `alive`, `said`, `ended`,
`refused`, `done`. Everything else that is printed, by any library, goes to the log that stderr is.
"""

import math
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TextIO

from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution.messages import Message, receive
from sweeplab.execution.placement import num_cores
from sweeplab.execution.siblings import Sibling, Voice, gather
from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import ConfigError

if TYPE_CHECKING:
    from sweeplab.trial.resources import Resources

ALIVE_SECONDS: Final = 10.0  # between two words of a worker that has nothing else to say
KINDS: Final = ("open", "cohort", "join", "verdict")


def claim_stdout() -> TextIO:
    """The stream to the driver; file descriptor 1 is the log from here on, also for code that is not Python."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return private


Next = Callable[[str], Message]  # waits for the next message of a kind


def inbox(voice: Voice) -> Next:
    """Messages as they come, passed on to the other processes of a model on several devices, which this one starts.

    A driver that is gone ends this process, whatever it is doing.
    """
    messages: dict[str, queue.Queue[Message]] = {kind: queue.Queue() for kind in KINDS}

    def read() -> None:
        siblings: list[Sibling] = []
        for line in sys.stdin:
            message = receive(line)
            for sibling in siblings:
                sibling.tell(line)
            if message["kind"] == "open" and message["num_devices"] > 1 and message["rank"] == 0:
                try:
                    message, siblings = gather(message, voice)
                except ConfigError as error:
                    voice.break_off("refused", message=str(error))
            messages[message["kind"]].put(message)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lambda kind: messages[kind].get()


def every(seconds: float, do: Callable[[], None]) -> Callable[[], None]:
    """`do`, at most once in so many seconds."""
    last = -math.inf

    def now_and_then() -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            do()

    return now_and_then


def open_resources(opening: Message, voice: Voice) -> "Resources":
    """The workbench that the driver asks for, on one device of those that its model is on. Raises `ConfigError`."""
    from sweeplab.runtime.device import resolve_device
    from sweeplab.runtime.process_group import ONE_PROCESS, join_process_group
    from sweeplab.trial.resources import Resources

    settings, count = ExecutorConfig(**opening["executor"]), opening["num_devices"]
    patience = ALIVE_SECONDS if settings.stall_seconds is None else min(ALIVE_SECONDS, settings.stall_seconds / 4)
    ranks = ONE_PROCESS
    if count > 1:
        settings = replace(settings, num_threads=max(1, (settings.num_threads or num_cores()) // count))
        device = resolve_device(settings.device)
        ranks = join_process_group(opening["rank"], count, opening["port"], opening["listener"], device)
    return Resources.open(settings, every(patience, lambda: voice.say("alive")), ranks)


def serve(voice: Voice, heard: Next) -> None:
    """Runs cohorts one after another, for ever."""
    opening = heard("open")  # first: a process on one of several devices sees no other, if it is told in time
    from sweeplab.trial.lifecycle import run_cohort  # imports torch, while the driver composes trials

    num_devices = opening["num_devices"]
    voice.silent = opening["rank"] > 0

    def specs(kind: str) -> list[TrialSpec]:
        return [TrialSpec.from_dict(spec) for spec in heard(kind)["specs"]]

    def observe(number: int, step: int, values: dict[str, float]) -> str | None:
        voice.say("observed", number=number, step=step, values=values)
        why: str | None = heard("verdict")["why"] if opening["pruning"] and "heldout_loss" in values else None
        return why

    def say(text: str) -> None:
        voice.say("said", text=text)

    try:
        resources = open_resources(opening, voice)
        while True:
            for record in run_cohort(specs("cohort"), resources, observe, say, ask_for_more=lambda: specs("join")):
                voice.end(record, num_devices)
            voice.say("done")
    except (ConfigError, StoreError) as error:
        if num_devices > 1:
            voice.break_off("refused", message=str(error))
        voice.say("refused", message=str(error))


def main() -> None:
    voice = Voice(claim_stdout())
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    serve(voice, inbox(voice))


if __name__ == "__main__":
    main()
