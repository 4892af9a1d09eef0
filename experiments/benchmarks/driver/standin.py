"""An executor without workers: every trial that it is given ends at once, in the order of submission."""

import math
import queue
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

from sweeplab.execution.executor import Executor
from sweeplab.execution.link import Message
from sweeplab.execution.worker_handle import Event
from sweeplab.records.record import HeldoutPoint, Phase, Score, Status, TrainPoint, TrialRecord

NUM_STEPS: Final = 200
TASK: Final = "tiny_new_facts"


def loss_of(params: dict[str, Any], seed: int) -> float:
    """A smooth function of the setting, in nats per token, with its best point inside the space."""
    far = sum(math.log10(float(value) / 3e-3) ** 2 for value in params.values())
    return 2.0 + 0.1 * far + 0.001 * seed


def record_of(spec: Message) -> TrialRecord:
    """What a worker would tell of a trial of `NUM_STEPS` steps, as large as a real record."""
    loss = loss_of(spec["params"], spec["seed"])
    record = TrialRecord(spec["number"], Status.FINISHED, spec["seed"], spec["params"], spec["config"], step=NUM_STEPS)
    record.phases = {name: Phase(seconds) for name, seconds in (("load", 1.0), ("train", 20.0), ("evaluate", 5.0))}
    record.losses = [TrainPoint(step, loss, 1e-3) for step in range(10, NUM_STEPS + 1, 10)]
    record.heldout_losses = [HeldoutPoint(step, loss) for step in (50, 100, 150, NUM_STEPS)]
    record.heldout_loss_nats_per_token = loss
    record.scores = {TASK: {"exact_match": Score(1 / loss, 0.01, 200)}}
    return record


class StandinExecutor(Executor):
    """`num_workers` workers, none of which is a process."""

    def __init__(self, num_workers: int, num_observations: int) -> None:
        self.num_standins = num_workers
        self.num_observations = num_observations
        self.events = queue.Queue()  # what a person asks for would come here; nobody does
        self.told: deque[Iterator[Event]] = deque()  # of each worker at work, what it has still to say

    @property
    def num_workers(self) -> int:
        return self.num_standins

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.told.clear()

    def is_ready(self, worker: int) -> bool:
        return True

    def submit(self, worker: int, specs: list[Message], only_forecast: bool = False) -> None:
        self.told.append(self.run_trials(worker, specs))

    def run_trials(self, worker: int, specs: list[Message]) -> Iterator[Event]:
        for spec in specs:
            for place in range(1, self.num_observations + 1):
                step = place * NUM_STEPS // self.num_observations
                values = {"train_loss": 2.0, "lr": 1e-3, "num_steps": NUM_STEPS}
                yield Event(worker, {"kind": "observed", "number": spec["number"], "step": step, "values": values})
            yield Event(worker, {"kind": "ended", "record": record_of(spec).to_dict()})
        yield Event(worker, {"kind": "done"})

    def next_event(self) -> Event:
        """One event of each worker in turn."""
        while True:
            events = self.told.popleft()
            event = next(events, None)
            if event is not None:
                self.told.append(events)
                return event

    def refill(self, worker: int, specs: list[Message]) -> None:
        assert not specs, "a cohort of one needs no refill"

    def send_verdict(self, worker: int, why: str | None) -> None:
        raise AssertionError("nothing is pruned here")

    def restart(self, worker: int) -> None:
        raise AssertionError("no worker dies here")
