"""A study of many trials through the driver's own parts, each of them timed; nothing is trained."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from unittest.mock import patch

from hydra import initialize_config_dir
from rich.console import Console

from experiments.benchmarks.driver.standin import StandinExecutor
from sweeplab.config.compose import Request, compose_conf, to_study_config, trial_config
from sweeplab.config.conf import CONF
from sweeplab.execution import scheduler as module
from sweeplab.execution.budget import Budget
from sweeplab.execution.driver import Driver
from sweeplab.records.items import read_items
from sweeplab.records.store import make_folder, read_records, write_facts, write_record
from sweeplab.report import write_report
from sweeplab.search.search import Search
from sweeplab.tracking.progress import StudyProgress
from sweeplab.tracking.tracker import NoTracker

NAME: Final = "many"
OVERRIDES: Final = (
    f"study.name={NAME}",
    "tracking=none",
    "executor.cohort_size=1",
    "study.objectives=[heldout_loss_nats_per_token]",
    "evaluation=none",
    "++space.optimizer.lr={low: 1e-5, high: 1e-1, log: true}",
    "++space.adapter.rank.choices=[1,2,4,8,16,32,64]",
    "study.seeds=[0]",
)

P = ParamSpec("P")
R = TypeVar("R")


class Clock:
    """Processor seconds and calls of functions, by name: other work on the machine and a slow disk do not count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def timed(self, name: str, work: Callable[P, R]) -> Callable[P, R]:
        def run(*arguments: P.args, **named: P.kwargs) -> R:
            began = time.process_time()
            try:
                return work(*arguments, **named)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began
                self.calls[name] = self.calls.get(name, 0) + 1

        return run

    def per_second(self) -> dict[str, float]:
        return {name: self.calls[name] / seconds for name, seconds in self.seconds.items()}


@contextmanager
def request_of(folder: Path, *overrides: str) -> Iterator[Request]:
    """What the command line would ask of a driver; trials can be composed within."""
    everything = [*OVERRIDES, *overrides, f"study.runs_dir={folder}/runs", f"study.reports_dir={folder}/reports"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield Request(to_study_config(compose_conf(everything), NAME), everything, "the command")


def go_on(request: Request, num_workers: int, num_observations: int) -> dict[str, Any]:
    """Opens the study as a driver does, and runs what is left. Processor seconds of each, and rates of the parts."""
    clock, quiet = Clock(), Console(file=io.StringIO(), width=200)
    driver = Driver(request, quiet)
    began = time.process_time()
    make_folder(driver.folder)
    compose_trial = clock.timed("compose", partial(trial_config, request.overrides))
    search = Search(request.config, driver.varied, driver.folder, driver.open_folder(), compose_trial, driver.say)
    write_facts(driver.folder, driver.facts)
    opened = time.process_time()
    search.ask = clock.timed("ask", search.ask)  # type: ignore[method-assign]
    search.tell = clock.timed("tell", search.tell)  # type: ignore[method-assign]
    with (
        timed_functions(clock),
        StudyProgress(search.num_planned, search.num_ended(), quiet, driver.folder) as progress,
    ):
        executor = StandinExecutor(num_workers, num_observations)
        budget = Budget(request.config.study, driver.folder, search.records, num_workers)
        scheduler = module.Scheduler(request, driver.folder, search, executor, NoTracker(), progress, budget)
        scheduler.handle_observation = clock.timed("observe", scheduler.handle_observation)  # type: ignore[method-assign]
        scheduler.run()
    search.close()
    return {
        "open_seconds": opened - began,
        "run_seconds": time.process_time() - opened,
        "num_run": clock.calls.get("tell", 0),
        "per_second": clock.per_second(),
    }


@contextmanager
def timed_functions(clock: Clock) -> Iterator[None]:
    """What `Scheduler` calls by name is timed within."""
    with patch.object(module, "write_record", clock.timed("record", write_record)):
        yield


def report_seconds(request: Request) -> float:
    """Processor seconds for reading the records and writing the report."""
    driver = Driver(request, Console(file=io.StringIO()))
    began = time.process_time()
    records, items = read_records(driver.folder), read_items(driver.folder) or None
    write_report(driver.facts, records, Path(request.config.study.reports_dir) / NAME, items)
    return time.process_time() - began
