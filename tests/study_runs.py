"""Rooms for the study's tests: composed studies, the command line in a process, and a stand-in for the worker."""

import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil
import pytest
from hydra import initialize_config_dir

import sweeplab
from sweeplab.config.compose import Request, compose_conf, to_study_config
from sweeplab.config.conf import CONF
from sweeplab.config.space import Axis, Params, axes
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.quarantine import read_study
from sweeplab.records.record import Status, TrialRecord
from sweeplab.records.store import write_record
from sweeplab.search.search import Search
from tests.hostile import Answer, answer

# a shell starts its background jobs with SIGINT ignored, and what they start inherits that, a study under test too
signal.signal(signal.SIGINT, signal.default_int_handler)

CHECKOUT: Final = Path(sweeplab.__file__).parents[1]
STANDIN: Final = Path(__file__).parent / "standin_worker.py"
MOST_SECONDS: Final = 200.0  # until what never comes is given up: a busy machine takes its time
LOSS: Final = "study.objectives=[heldout_loss_nats_per_token]"
QUICK: Final = (  # one seed: most tests are about points
    LOSS,
    "evaluation=none",
    "tracking=none",
    "executor.cohort_size=1",
    "executor.num_workers=1",
    "study.seeds=[0]",
)
SHORT: Final = (
    "quantization=none",
    "training.precision=float32",
    "training.max_steps=3",
    "training.log_interval=1",
    "training.micro_batch_size=4",
    "data.num_examples=16",
    "executor.device=cpu",
    "executor.num_threads=1",
)
WITH_STANDIN: Final = (
    "import os, sys; sys.executable = os.environ['STANDIN']; from sweeplab.__main__ import main; main()"
)

REAL: Final = (  # two trials with the real worker, of which the first diverges
    *SHORT,
    LOSS,
    "executor.num_workers=1",
    "study.question=What diverges?",
    "evaluation.tasks=[tiny_new_facts,tiny_addition_choice]",
    "evaluation.limit=6",
    "optimizer=sgd",
    "training.gradient_clip=null",
    "training.heldout_interval=1",
    "schedule=constant",
    "study.seeds=[0]",
    "space.optimizer.lr.choices=[1e30,0.01]",
)

ComposeStudy = Callable[..., StudyConfig]
MakeRequest = Callable[..., Request]
Open = Callable[..., Search]


@pytest.fixture(scope="session", autouse=True)
def _not_synced() -> Iterator[None]:
    """What tests of this process write need not outlive a power cut, and a busy disk takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def hydra() -> Iterator[None]:
    """Hydra as the command line sets it up, so that trials can be composed."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture
def compose_study(hydra: None) -> ComposeStudy:
    """The checked `StudyConfig` of overrides; with one seed where they name none, since most tests are about points."""

    def make(*overrides: str) -> StudyConfig:
        named = any(one.lstrip("+").startswith(("study.seeds", "experiment=")) for one in overrides)
        everything = overrides if named else (*overrides, "study.seeds=[0]")
        return to_study_config(compose_conf(everything), "single", everything)

    return make


@pytest.fixture
def make_request(compose_study: ComposeStudy, tmp_path: Path) -> MakeRequest:
    """What the command line would ask of the driver, in `tmp_path`."""

    def make(*overrides: str) -> Request:
        everything = [*QUICK, *overrides, f"study.runs_dir={tmp_path}/runs", f"study.reports_dir={tmp_path}/reports"]
        return Request(compose_study(*everything), everything, "the command")

    return make


def environment(**others: str) -> dict[str, str]:
    """Offline, one thread, no colours, a narrow look at this process's environment; this checkout's code."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    return kept | quiet | {"PYTHONPATH": str(CHECKOUT)} | others


def run_cli(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """`python -m sweeplab` in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "sweeplab", *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )


@contextmanager
def running(command: list[str], folder: Path, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that does not outlive the test."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Standin:
    """A worker without a model, told by `plan.json` what to do; it notes each trial that it is given.

    It stands in for `sys.executable`: executor and driver start, feed, read and kill it as they do the real one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, sys.executable
        self.program = folder / "python"
        self.program.write_text(f'#!/bin/sh\nexec "{self.python}" "{STANDIN}" "{folder}" "$@"\n')
        self.program.chmod(0o755)
        self.plan()

    def plan(self, **behaviour: Any) -> None:
        """Keys: seconds; forecast, with seconds and tokens of a trial; largest, the micro-batch that fits; and by
        trials' numbers wait (for `let_go`), die_once, die_always, die_after, poison, poison_once, cut_off, hang_once,
        hang_always, diverge, break, cannot, refuse."""
        (self.folder / "plan.json").write_text(json.dumps(behaviour))

    def let_go(self) -> None:
        """Trials that wait go on, from now on at once."""
        (self.folder / "go").touch()

    def given(self) -> list[dict[str, Any]]:
        """What workers were given so far: number, seed, params, pid."""
        notes = self.folder / "given.jsonl"
        lines = notes.read_text().splitlines(keepends=True) if notes.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def heard(self, kind: str) -> list[list[int]]:
        """The numbers in every message `cohort` or `refill` that workers were sent so far, empty ones left out."""
        lines = map(json.loads, (self.folder / "heard.jsonl").read_text().splitlines())
        return [numbers for said, numbers in lines if said == kind and (numbers or kind == "cohort")]

    def hangs(self) -> bool:
        """True while a worker does nothing any more, as its plan says."""
        return any(not gone(int(mark.name.partition("-")[2])) for mark in self.folder.glob("hangs-*"))

    def numbers(self) -> list[int]:
        return [one["number"] for one in self.given()]

    def cli(self, folder: Path, *arguments: str) -> AbstractContextManager["subprocess.Popen[str]"]:
        """The command line with this worker, running."""
        return running([self.python, "-c", WITH_STANDIN, *QUICK, *arguments], folder, STANDIN=str(self.program))

    def run_cli(self, folder: Path, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of the command line with this worker."""
        with self.cli(folder, *arguments) as process:
            out, err = process.communicate(timeout=MOST_SECONDS)
        return process.returncode, out, err


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Standin]:
    folder = tmp_path / "standin"
    folder.mkdir()
    standin = Standin(folder)
    yield standin
    standin.let_go()  # workers of killed drivers that still wait


@pytest.fixture
def standin_here(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> Standin:
    """The stand-in for drivers of this process."""
    monkeypatch.setattr(sys, "executable", str(standin.program))
    return standin


def wait_until(true: Callable[[], object], seconds: float = MOST_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """True where no such process runs; one that nobody has waited for yet does not run either."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def open_search(compose_study: ComposeStudy, tmp_path: Path) -> Open:
    """The search of overrides in one folder; opening it again is what a new driver does."""

    composed: dict[tuple[str, ...], StudyConfig] = {}

    def make(*overrides: str, folder: Path = tmp_path / "study") -> Search:
        if overrides not in composed:
            composed[overrides] = compose_study("evaluation=none", LOSS, *overrides)
        return opened(composed[overrides], axes(composed[overrides].space), folder)

    return make


def opened(config: StudyConfig, varied: list[Axis], folder: Path) -> Search:
    """A search whose trials are not composed one by one: each has the experiment's own configuration."""
    files = read_study(folder)
    return Search(config, varied, folder, files, lambda params: config.trial_config(), print)


def end(search: Search, record: TrialRecord) -> None:
    """Stores what came of a trial, and tells it, as the scheduler does."""
    write_record(search.folder, record)
    search.tell(record)


def asked_for(specs: list[TrialSpec]) -> list[tuple[int, Params, int]]:
    """What a search asked for: number, parameters and seed of each trial."""
    return [(spec.number, spec.params, spec.seed) for spec in specs]


def record_of(asked: TrialSpec, loss: float | None = 1.0) -> TrialRecord:
    status = Status.FAILED if loss is None else Status.FINISHED
    return TrialRecord(asked.number, status, asked.seed, asked.params, {}, heldout_loss_nats_per_token=loss)


def rising(asked: TrialSpec) -> float:
    return 2.0 + 0.01 * asked.number


def run(search: Search, most: int | None = None, loss: Callable[[TrialSpec], float] = rising) -> list[TrialSpec]:
    """Asks and tells until the study or `most` trials are done."""
    done = []
    for asked in islice(search.ask_all(), most):
        end(search, record_of(asked, loss(asked)))
        done.append(asked)
    return done


class RealStudy(NamedTuple):
    """A study that the real worker ran, mirrored to an offline W&B; its first try had bad data and was refused."""

    folder: Path
    refused: Answer
    done: "subprocess.CompletedProcess[str]"
    report: str  # report.html as that run left it
    private: dict[str, str]  # of the environment it ran in


@pytest.fixture(scope="session")
def real_study(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> RealStudy:
    """The same for all test processes: the first that needs it runs it, the others wait. Change copies of it only."""
    if worker_id == "master":  # there is one process, and the folder above belongs to other runs of pytest too
        return run_real_study(tmp_path_factory)
    shared = tmp_path_factory.getbasetemp().parent
    kept = shared / "real_study.pickle"
    with (shared / "real_study.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(run_real_study(tmp_path_factory)))
    study: RealStudy = pickle.loads(kept.read_bytes())
    return study


def run_real_study(tmp_path_factory: pytest.TempPathFactory) -> RealStudy:
    folder = tmp_path_factory.mktemp("real")
    home = tmp_path_factory.mktemp("home-of-zaphod")
    private = {
        "HOME": str(home),
        "LOGNAME": "zaphod-beeblebrox",
        "USER": "zaphod-beeblebrox",
        "USERNAME": "zaphod-beeblebrox",
        "SECRET_TOKEN": "token-7d1f0c9a55e34b",
        "HF_TOKEN": "hf_zaphods0wnt0ken",
        "AWS_SECRET_ACCESS_KEY": "zaphod/AKIA/2e7b1b",
        "WANDB_API_KEY": "4242" * 10,
    }
    rows = [{"instruction": f"Say {number}.", "output": f"{number}"} for number in range(20)]
    lines = map(json.dumps, [*rows, {"instruction": "Say more."}])
    (folder / "records.jsonl").write_text("\n".join(lines))
    refused = answer([*REAL, "tracking=none", "data=json", "data.path=records.jsonl"], folder)
    done = run_cli(folder, *REAL, **private)
    report = (folder / "reports" / "single" / "report.html").read_text()
    return RealStudy(folder, refused, done, report, private)
