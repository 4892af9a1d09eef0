"""The worker process: holds the base model, runs cohorts, reports. Started as `python -m sweeplab.study.worker`.

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
from typing import Final, TextIO

from sweeplab.config import ConfigError, ExecutorConfig
from sweeplab.store import StoreError
from sweeplab.study.messages import Message, receive, send, spec_fields

ALIVE_SECONDS: Final = 10.0  # between two words of a worker that has nothing else to say
KINDS: Final = ("open", "cohort", "join", "verdict")


def claim_stdout() -> TextIO:
    """The stream to the driver; file descriptor 1 is the log from here on, also for code that is not Python."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return private


Next = Callable[[str], Message]  # waits for the next message of a kind


def inbox() -> Next:
    """Messages as they come. A driver that is gone ends this process, whatever it is doing."""
    messages: dict[str, queue.Queue[Message]] = {kind: queue.Queue() for kind in KINDS}

    def read() -> None:
        for line in sys.stdin:
            message = receive(line)
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


def serve(out: TextIO, heard: Next) -> None:
    """Runs cohorts one after another, for ever."""
    from sweeplab.cohort import run_cohort  # imports torch, while the driver composes trials
    from sweeplab.trial import TrialSpec
    from sweeplab.workbench import Workbench

    opening = heard("open")

    def specs(kind: str) -> list[TrialSpec]:
        return [TrialSpec(**spec_fields(spec)) for spec in heard(kind)["specs"]]

    def observe(number: int, step: int, values: dict[str, float]) -> str | None:
        send(out, "observed", number=number, step=step, values=values)
        why: str | None = heard("verdict")["why"] if opening["pruning"] and "heldout_loss" in values else None
        return why

    def say(text: str) -> None:
        send(out, "said", text=text)

    settings = ExecutorConfig(**opening["executor"])
    patience = ALIVE_SECONDS if settings.stall_seconds is None else min(ALIVE_SECONDS, settings.stall_seconds / 4)
    try:
        bench = Workbench.open(settings, every(patience, lambda: send(out, "alive")))
        while True:
            for record in run_cohort(specs("cohort"), bench, observe, say, newcomers=lambda: specs("join")):
                send(out, "ended", record=record.to_dict())
            send(out, "done")
    except (ConfigError, StoreError) as error:
        send(out, "refused", message=str(error))


def main() -> None:
    out = claim_stdout()
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    serve(out, inbox())


if __name__ == "__main__":
    main()
