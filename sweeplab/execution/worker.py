"""The worker process: holds the base, runs cohorts, reports. It is started as `python -m sweeplab.execution.worker`.

It receives `open` once, then one `cohort` at a time, a `refill` after each `ended` and, where a pruner is on, a
`verdict` after each `observed` with a held-out loss; at any time `stop`, for a trial that a person stops. It sends
`forecast`, `doing`, `observed`, `alive`, `notice`, `ended`, `refused` and `done`. Whatever libraries print goes to
stdout and stderr, which are the worker's log.
"""

import functools
import math
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.execution.link import InvalidMessage, Link, Message, connect_from_stdin
from sweeplab.execution.placement import count_cores
from sweeplab.execution.ranks import RankProcess, Reporter, start_ranks
from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import ConfigError

if TYPE_CHECKING:
    from sweeplab.trial.resources import Resources

_ALIVE_SECONDS: Final = 10.0  # between two `alive` messages
_COUNT_SECONDS: Final = 1.0  # between two `doing` messages of the same work

_Receive = Callable[[str], Message]  # waits for the next message, which must be of the given kind


def _receive_in_background(link: Link, reporter: Reporter, stopping: set[int]) -> _Receive:
    """Starts a thread that reads messages, and returns a function that waits for the next one. Numbers of trials that
    are to stop join `stopping`, whatever this process does.

    With a model on several devices the thread also starts the other ranks and forwards messages to them. When the
    driver closes the link, this process ends at once.
    """
    messages: queue.Queue[Message] = queue.Queue()

    def read() -> None:
        ranks: list[RankProcess] = []
        for message in link.messages():
            for rank in ranks:
                rank.link.send(**message)
            if message["kind"] == "open" and message["num_devices"] > 1 and message["rank"] == 0:
                try:
                    message, ranks = start_ranks(message, reporter)
                except ConfigError as error:
                    reporter.abort("refused", message=str(error))
            if message["kind"] == "stop":
                stopping.add(message["number"])
            else:
                messages.put(message)

    def read_and_exit() -> None:
        try:
            read()
        except InvalidMessage as error:
            print(f"the driver sent a line that is not a message: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(0)

    def receive(kind: str) -> Message:
        message = messages.get()
        assert message["kind"] == kind, f"the driver sent {message['kind']}, not {kind}"
        return message

    threading.Thread(target=read_and_exit, daemon=True).start()
    return receive


def _limit_rate(seconds: float, do: Callable[[], None]) -> Callable[[], None]:
    """A function that calls `do` at most once in `seconds`."""
    last = -math.inf

    def run_if_due() -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            do()

    return run_if_due


class _TellWork:
    """Tells the driver what this worker does; how far it is with it at most once in `_COUNT_SECONDS`."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.last: tuple[str, list[int]] | None = None
        self.told_at = -math.inf

    def __call__(self, what: str, trials: Sequence[int], count: str = "", steps: Sequence[int] = ()) -> None:
        now, work = time.monotonic(), (what, list(trials))
        if work != self.last or now - self.told_at >= _COUNT_SECONDS:
            self.last, self.told_at = work, now
            self.reporter.report("doing", what=what, trials=work[1], count=count, steps=list(steps))


@contextmanager
def _compile_at_first_call() -> Iterator[None]:
    """Within it `torch.compile` waits for the first call of what it is given.

    PEFT imports hqq where that is installed, which compiles methods as it is imported; none of them is called here, and
    importing the compiler takes a fifth of the time in which a worker starts.
    """
    import torch

    compile_now: Any = torch.compile

    def compile_later(function: Any = None, **options: Any) -> Any:
        if function is None:
            return lambda decorated: compile_later(decorated, **options)
        compiled = functools.cache(lambda: compile_now(function, **options))
        return functools.wraps(function)(lambda *arguments, **named: compiled()(*arguments, **named))

    torch.compile = compile_later  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compile_now


def _read_executor(opening: Message) -> ExecutorConfig:
    return ExecutorConfig.model_construct(None, **opening["executor"])


def _open_resources(opening: Message, reporter: Reporter) -> "Resources":
    """The resources of the opening message, on the device of this rank. Raises `ConfigError`."""
    from sweeplab.runtime.device import resolve_device
    from sweeplab.runtime.process_group import ONE_PROCESS, join_process_group
    from sweeplab.trial.resources import Resources

    settings, count = _read_executor(opening), opening["num_devices"]
    interval = _ALIVE_SECONDS if settings.stall_seconds is None else min(_ALIVE_SECONDS, settings.stall_seconds / 4)
    ranks = ONE_PROCESS
    if count > 1:
        settings = settings.replaced(num_threads=max(1, (settings.num_threads or count_cores()) // count))
        device = resolve_device(settings.device)
        ranks = join_process_group(opening["rank"], count, opening["port"], opening["listener"], device)
    report_alive = _limit_rate(interval, lambda: reporter.report("alive"))
    resources = Resources.open(settings, report_alive, ranks, opening["gpu_share"])
    resources.tell = _TellWork(reporter)
    return resources


def _forecast(spec: TrialSpec, executor: ExecutorConfig) -> dict[str, float | None]:
    """Seconds and tokens that the trial will take; None where they are not known, or the trial itself will say why."""
    from sweeplab.planning.forecast import Forecaster

    try:
        forecast = Forecaster(executor).forecast(spec.config)
    except ConfigError:
        return {"seconds": None, "tokens": None}
    parts = forecast.train_seconds, forecast.heldout_seconds, forecast.task_seconds
    return {"seconds": None if parts[0] is None else sum(filter(None, parts)), "tokens": forecast.num_train_tokens}


def _serve(reporter: Reporter, receive: _Receive, stopping: set[int]) -> None:
    """Runs cohorts one after another, until the driver ends this process or the study is refused."""
    opening = receive("open")  # sets CUDA_VISIBLE_DEVICES of a rank, so torch must not be imported before
    with _compile_at_first_call():
        from sweeplab.trial.lifecycle import run_cohort  # imports torch while the driver already composes trials

    num_devices = opening["num_devices"]
    reporter.is_silent = opening["rank"] > 0

    def read_specs(message: Message) -> list[TrialSpec]:
        return [TrialSpec.from_dict(spec) for spec in message["specs"]]

    def observe(number: int, step: int, values: dict[str, float]) -> str | None:
        reporter.report("observed", number=number, step=step, values=values)
        why: str | None = receive("verdict")["why"] if opening["pruning"] and "heldout_loss" in values else None
        return why

    def notify(text: str) -> None:
        reporter.report("notice", text=text)

    try:
        resources = _open_resources(opening, reporter)
        resources.stopping = stopping
        while True:
            message = receive("cohort")
            cohort = read_specs(message)
            if message["only_forecast"]:
                reporter.report("forecast", **_forecast(cohort[0], _read_executor(opening)))
            else:
                for record in run_cohort(cohort, resources, observe, notify, lambda: read_specs(receive("refill"))):
                    reporter.end_trial(record, num_devices)
            reporter.report("done")
    except (ConfigError, StoreError) as error:
        if num_devices > 1:
            reporter.abort("refused", message=str(error))
        reporter.report("refused", message=str(error))


def _main() -> None:
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # lm-eval's bootstrap: the same draws without forking this process
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    link = connect_from_stdin()
    reporter = Reporter(link)
    stopping: set[int] = set()
    _serve(reporter, _receive_in_background(link, reporter, stopping), stopping)


if __name__ == "__main__":
    _main()
