"""The worker process: holds the base model, runs cohorts, reports. Started as `python -m sweeplab.study.worker`.

Lines in: `open` once, then a `cohort` at a time, and after each `ended` a `join` with what takes its place. Lines out:
`observed`, `said`, `ended`, `refused`, `done`. Everything else
that is printed, by any library, goes to the log that stderr is.
"""

import os
import queue
import sys
import threading
import warnings
from typing import TextIO

from sweeplab.config import ConfigError, ExecutorConfig
from sweeplab.study.messages import Message, receive, send, spec_fields


def claim_stdout() -> TextIO:
    """The stream to the driver; file descriptor 1 is the log from here on, also for code that is not Python."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return private


def inbox() -> "queue.Queue[Message]":
    """Messages as they come. A driver that is gone ends this process, whatever it is doing."""
    messages: queue.Queue[Message] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            messages.put(receive(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return messages


def serve(out: TextIO, messages: "queue.Queue[Message]") -> None:
    """Runs cohorts one after another, for ever."""
    from sweeplab.cohort import run_cohort  # imports torch, while the driver composes trials
    from sweeplab.trial import TrialSpec
    from sweeplab.workbench import Workbench

    def specs() -> list[TrialSpec]:
        return [TrialSpec(**spec_fields(spec)) for spec in messages.get()["specs"]]

    def observe(number: int, step: int, values: dict[str, float]) -> None:
        send(out, "observed", number=number, step=step, values=values)

    def say(text: str) -> None:
        send(out, "said", text=text)

    opening = messages.get()
    try:
        bench = Workbench.open(ExecutorConfig(**opening["executor"]))
        while True:
            for record in run_cohort(specs(), bench, observe, say, newcomers=specs):
                send(out, "ended", record=record.to_dict())
            send(out, "done")
    except ConfigError as error:
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
