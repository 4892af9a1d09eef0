"""A study that is killed after every step of every trial draws, decides and keeps what an undisturbed one does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import optuna
import pytest
from optuna.trial import FrozenTrial

import sweeplab.search.search
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.records.asked import AskedTrial, write_asked
from sweeplab.records.record import HeldoutPoint, Status, TrialRecord
from sweeplab.records.store import write_record
from sweeplab.search.dashboard import Dashboard
from sweeplab.search.search import Search
from tests.search.test_enqueue import RANK, earlier
from tests.search.test_pruners import RUNGS, curve
from tests.search.test_samplers import CONDITION, LISTED, RANGES, SMALL_SAMPLERS, bowl
from tests.study_runs import Open, record_of

TPE: Final = ("sampler=tpe", "sampler.n_startup_trials=2")
NSGA2: Final = ("sampler=nsga2", "sampler.population_size=2")
TWO: Final = "study.objectives=[heldout_loss_nats_per_token,num_trainable_params]"
BOUND: Final = "++study.constraints.num_trainable_params.max=150"
WIDER: Final = (
    "++space.optimizer.lr={low: 1e-6, high: 1e-1, log: true}",
    "++space.adapter.dropout={low: 0, high: 0.9}",
)
ONCE: Final[dict[str, tuple[str, ...]]] = {
    **{name: (*options, f"sampler={name}") for name, options in SMALL_SAMPLERS.items()},
    "race": (*LISTED, "sampler=race", "study.within=0.5", "study.seeds=[0,1,2,3]"),
    "seeds": (*RANGES, *TPE, "study.seeds=[0,1]"),
    "condition-tpe": (*CONDITION, *TPE),
    "condition-nsga2": (*CONDITION, *NSGA2),
    "objectives-tpe": (*RANGES, *TPE, TWO),
    "objectives-nsga2": (*RANGES, *NSGA2, TWO),
    "constraints-tpe": (*RANGES, *TPE, BOUND),
    "constraints-nsga2": (*RANGES, *NSGA2, BOUND),
    "enqueue-nsga2": (*RANGES, *NSGA2, "study.enqueue=[{optimizer.lr: 0.001},alpaca_lora]", "study.seeds=[0,1]"),
    "enqueue-cmaes": (*RANGES, "sampler=cmaes", "sampler.popsize=4", "study.enqueue=[{optimizer.lr: 0.001}]"),
    "warm-start": (RANGES[0], RANK, *TPE, "study.warm_start=old"),
    "asha": (*RANGES, *TPE, *RUNGS, "pruner=asha", "pruner.reduction_factor=2", "pruner.min_resource=10"),
    "hyperband": (*RANGES, *TPE, *RUNGS, "pruner=hyperband"),
    "median": (*RANGES, *TPE, *RUNGS, "pruner=median", "pruner.n_startup_trials=2"),
    "wilcoxon": (*RANGES, *TPE, *RUNGS, "pruner=wilcoxon", "pruner.p_threshold=0.3"),
    "patient": (*RANGES, *TPE, *RUNGS, "pruner=patient"),
    "pruned-seeds": (*RANGES, *TPE, *RUNGS, "pruner=median", "pruner.n_startup_trials=2", "study.seeds=[0,1]"),
}
GROWN: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "tpe": ((*RANGES, *TPE), (*WIDER, *TPE)),
    "cmaes": ((*RANGES, "sampler=cmaes", "sampler.popsize=4"), (*WIDER, "sampler=cmaes", "sampler.popsize=4")),
    "nsga2": ((*RANGES, *NSGA2), (*WIDER, *NSGA2)),
    "qmc": ((*RANGES, "sampler=qmc"), (*WIDER, "sampler=qmc")),
    "grid": ((*LISTED, "sampler=grid"), ("++space.adapter.rank.choices=[2,4,8,16]", LISTED[1], "sampler=grid")),
}


class Killed(Exception):
    """The driver's process ends here."""


class Kills:
    """Ends the process at each point that it comes to for the first time.

    Of a trial's end only one of three is a point, since whoever goes on from a record tells it at once.
    """

    def __init__(self) -> None:
        self.points: set[tuple[object, ...]] = set()
        self.on = False

    def at_end(self, point: str, number: int) -> None:
        if point == ("recorded", "telling", "told")[number % 3]:
            self.at(point, number)

    def at(self, *point: object) -> None:
        if self.on and point not in self.points:
            self.points.add(point)
            raise Killed


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Kills:
    """Around `trial.json` and within the telling, too; without the dashboard's database, which nobody reads."""
    kills, tell = Kills(), optuna.Study.tell

    def store(folder: Path, asked: AskedTrial) -> None:
        kills.at("before trial.json", asked.number, len(asked.heldout_losses))
        write_asked(folder, asked)
        kills.at("after trial.json", asked.number, len(asked.heldout_losses))

    def tell_or_die(study: optuna.Study, trial: optuna.Trial, **arguments: Any) -> FrozenTrial:
        kills.at_end("telling", trial.number)
        return tell(study, trial, **arguments)

    monkeypatch.setattr(sweeplab.search.search, "write_asked", store)
    monkeypatch.setattr(optuna.Study, "tell", tell_or_die)
    monkeypatch.setattr(Dashboard, "rebuild", lambda *_: None)
    return kills


def train(search: Search, spec: TrialSpec) -> TrialRecord:
    """Every fourth trial fails, and every fifth has no memory; where a pruner is, rung by rung."""
    record = replace(record_of(spec, bowl(spec)), num_trainable_params=50 * spec.number)
    if search.config.pruner.name != "none":
        for step in range(10, 81, 10):
            loss = curve(spec.number, step) if search.config.pruner.name != "patient" else 2.0 + spec.number + step
            record.heldout_losses.append(HeldoutPoint(step, loss))
            if reason := search.report(spec.number, step, loss):
                return replace(record, status=Status.PRUNED, reason=reason, heldout_loss_nats_per_token=None)
    for every, status in ((4, Status.FAILED), (5, Status.OUT_OF_MEMORY)):
        if spec.number % every == every - 1:
            return replace(record, status=status, reason="so it ended", heldout_loss_nats_per_token=None)
    return record


def finish(open_one: Callable[[], Search], kills: Kills, asked: dict[int, set[str]]) -> Search:
    """Runs the study as one driver after another; notes in `asked` what was asked for, by number."""
    while True:
        try:
            search = open_one()
            for spec in search.ask_all():
                asked.setdefault(spec.number, set()).add(repr((spec.params, spec.seed)))
                kills.at("asked", spec.number)
                record = train(search, spec)
                kills.at("trained", spec.number)
                write_record(search.folder, record)
                kills.at_end("recorded", spec.number)
                search.tell(record)
                kills.at_end("told", spec.number)
        except Killed:
            continue
        return search


def everything(search: Search) -> list[dict[str, Any]]:
    """What Optuna knows of each trial, but its times."""
    odd = ("_datetime_start", "datetime_complete")
    trials = search.study.get_trials(deepcopy=False)
    return [{name: value for name, value in vars(trial).items() if name not in odd} for trial in trials]


def compare(open_search: Open, kills: Kills, tmp_path: Path, phases: list[tuple[str, ...]]) -> Search:
    """The study without kills, and with all of them, phase by phase."""
    calm_asked, wild_asked = dict[int, set[str]](), dict[int, set[str]]()
    for overrides in phases:
        kills.on = False
        calm = finish(lambda: open_search(*overrides, folder=tmp_path / "calm"), kills, calm_asked)  # noqa: B023
        kills.on = True
        wild = finish(lambda: open_search(*overrides, folder=tmp_path / "wild"), kills, wild_asked)  # noqa: B023
        assert wild_asked == calm_asked
        assert all(len(one) == 1 for one in wild_asked.values())
        assert everything(wild) == everything(calm)
        assert wild.queue.num_left_out == calm.queue.num_left_out
    assert len(kills.points) >= 5 * len(calm_asked)
    return calm


@pytest.mark.parametrize("name", ONCE)
def test_killed_after_every_step_it_goes_on_as_if_nothing_had_been(
    open_search: Open, kills: Kills, name: str, tmp_path: Path
) -> None:
    earlier(tmp_path)
    overrides = (*ONCE[name], f"study.runs_dir={tmp_path}", "study.num_trials=7")
    search = compare(open_search, kills, tmp_path, [overrides])
    reasons = [trial.user_attrs.get("reason", "") for trial in search.own_trials()]
    assert any("pruner=" in reason for reason in reasons) == (search.config.pruner.name != "none")


@pytest.mark.parametrize("sampler", GROWN)
def test_killed_before_and_after_its_space_grew_it_goes_on_as_if_nothing_had_been(
    open_search: Open, kills: Kills, sampler: str, tmp_path: Path
) -> None:
    before, after = GROWN[sampler]
    compare(open_search, kills, tmp_path, [(*before, "study.num_trials=4"), (*after, "study.num_trials=8")])


def test_trials_that_run_beside_each_other_come_back_with_their_numbers(open_search: Open, tmp_path: Path) -> None:
    """Killed with three at once: these come first, and what was drawn beside them stays."""
    overrides = (*RANGES, *TPE, "study.num_trials=6")
    search = open_search(*overrides)
    asking = search.ask_all()
    first = [next(asking) for _ in range(4)]
    write_record(search.folder, record_of(first[1]))
    again = list(open_search(*overrides).ask_all())
    assert again[:3] == [first[0], first[2], first[3]]
    assert [one.number for one in again] == [0, 2, 3, 4, 5]
