"""A discrete-event model of an ASHA study: GPUs that train, and one driver that they wait for. Times in seconds."""

import random
from bisect import insort
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import simpy


class Service(NamedTuple):
    """How long the driver is busy with one of each."""

    ask: float
    observe: float
    record: float


class Plan(NamedTuple):
    """A study on `num_gpus`, of which each trains one trial at a time."""

    num_trials: int
    num_gpus: int
    trial_seconds: Callable[[random.Random], float]  # of a trial that is not stopped
    service: Callable[[float, random.Random], float]  # of a mean, how long the driver takes
    means: Service
    rungs: tuple[float, ...] = (1.0,)  # shares of a trial after which it is judged; the last one is its end
    reduction: int = 4
    failures_per_gpu_second: float = 0.0
    restart_seconds: float = 0.0
    straggler_share: float = 0.0
    straggler_factor: float = 1.0


@dataclass
class Outcome:
    makespan: float = 0.0
    gpu_seconds: float = 0.0  # trained, what failures destroyed included
    driver_seconds: float = 0.0
    waited_seconds: float = 0.0  # of GPUs for the driver, its own work included
    num_finished: int = 0
    num_stopped: int = 0
    num_failed: int = 0
    num_retries: int = 0
    num_calls: int = 0
    at_rungs: list[list[float]] = field(default_factory=list)


def promoted(loss: float, others: list[float], reduction: int) -> bool:
    """Optuna's rule of asynchronous halving; `others` holds this loss too, sorted."""
    return loss <= others[max(len(others) // reduction - 1, 0)]


def fixed(mean: float, _: random.Random) -> float:
    return mean


def exponential(mean: float, numbers: random.Random) -> float:
    return numbers.expovariate(1 / mean) if mean else 0.0


class Simulation:
    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.numbers = random.Random(seed)
        self.world = simpy.Environment()
        self.driver = simpy.Resource(self.world)
        self.outcome = Outcome(at_rungs=[[] for _ in plan.rungs])
        self.num_asked = 0

    def run(self) -> Outcome:
        for _ in range(self.plan.num_gpus):
            self.world.process(self.gpu())
        self.world.run()
        self.outcome.makespan = self.world.now
        return self.outcome

    def gpu(self) -> Generator[simpy.Event, Any, None]:
        while self.num_asked < self.plan.num_trials:
            self.num_asked += 1
            yield from self.call(self.plan.means.ask)
            yield from self.trial()
            yield from self.call(self.plan.means.record)

    def call(self, mean: float) -> Generator[simpy.Event, Any, None]:
        """The GPU waits until the driver has time, and while it works."""
        if mean == 0:
            return
        began = self.world.now
        with self.driver.request() as turn:
            yield turn
            seconds = self.plan.service(mean, self.numbers)
            yield self.world.timeout(seconds)
        self.outcome.num_calls += 1
        self.outcome.driver_seconds += seconds
        self.outcome.waited_seconds += self.world.now - began

    def trial(self) -> Generator[simpy.Event, Any, None]:
        plan, numbers = self.plan, self.numbers
        slow = plan.straggler_factor if numbers.random() < plan.straggler_share else 1.0
        seconds, quality = slow * plan.trial_seconds(numbers), numbers.random()
        done, retried = 0.0, False
        for place, rung in enumerate(plan.rungs):
            needed = (rung - done) * seconds
            while (lost := self.failure_within(needed)) is not None:
                yield from self.train(lost + plan.restart_seconds)
                if retried:
                    self.outcome.num_failed += 1
                    return
                retried = True
                self.outcome.num_retries += 1
            yield from self.train(needed)
            done = rung
            if rung < plan.rungs[-1] and not (yield from self.goes_on(place, quality)):
                self.outcome.num_stopped += 1
                return
        self.outcome.num_finished += 1

    def failure_within(self, seconds: float) -> float | None:
        """Seconds until the GPU's worker dies, where it does within `seconds`; work goes back to the last rung."""
        if not self.plan.failures_per_gpu_second:
            return None
        life = self.numbers.expovariate(self.plan.failures_per_gpu_second)
        return life if life < seconds else None

    def train(self, seconds: float) -> Generator[simpy.Event, Any, None]:
        self.outcome.gpu_seconds += seconds
        yield self.world.timeout(seconds)

    def goes_on(self, place: int, quality: float) -> Generator[simpy.Event, Any, bool]:
        yield from self.call(self.plan.means.observe)
        loss = quality + self.numbers.gauss(0.0, 0.05)
        insort(self.outcome.at_rungs[place], loss)
        return promoted(loss, self.outcome.at_rungs[place], self.plan.reduction)
