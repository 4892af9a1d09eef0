"""How people choose a setting, replayed on losses that are known: what each runs, and what it says."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import optuna

from sweeplab.statistics.intervals import Array
from sweeplab.statistics.race import (
    Point,
    RaceTable,
    Run,
    Standing,
    choose_runs,
    judge_race,
    list_further,
    list_neighbors,
    share_error,
)

_NUM_TPE: Final = 30
_RATE: Final = 0  # the rate's place in a setting
_NUM_TOP: Final = 5
_HALVING: Final = 3  # one setting in so many goes on
_RUNGS: Final = (0.25, 0.5)  # of conf/pruner/schedule.yaml
_KEEP_ONE_IN: Final = 2


class Choice(NamedTuple):
    """What a method ends with."""

    setting: int
    num_runs: float  # whole trainings; a part of one counts as that part
    bound: float | None = None  # what may be lost at most, where the method says so
    is_decided: bool = False
    was_wrong: bool = False  # whether what it said after any round was wrong


Method = Callable[[Array, Array, np.random.Generator], Choice]  # losses (K, S, R), true means (K,), random numbers


def try_every_setting(num_seeds: int) -> Method:
    """A grid with a fixed number of seeds; the best mean."""

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        best = int(losses_KSR[:, :num_seeds, -1].mean(axis=1).argmin())
        return Choice(best, len(losses_KSR) * num_seeds)

    return choose


def try_random(num_runs: int) -> Method:
    """So many different settings with one seed; the best."""

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        drawn = random.permutation(len(losses_KSR))[:num_runs]
        return Choice(int(drawn[losses_KSR[drawn, 0, -1].argmin()]), len(drawn))

    return choose


def search_with_tpe(settings: list[tuple[float, ...]]) -> Method:
    """What people script: Optuna's TPE for 30 trials, then three more seeds of the best five."""
    draw = _draw_with_tpe(settings)

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        top = draw(losses_KSR, random)
        means = losses_KSR[top, 1:4, -1].mean(axis=1)
        return Choice(top[int(means.argmin())], _NUM_TPE + 3 * len(top))

    return choose


def race_finalists(settings: list[tuple[float, ...]], within: float, most_runs: float) -> Method:
    """`sampler=finals`: TPE's best five race with other seeds, while a whole round still fits into `most_runs`."""
    draw = _draw_with_tpe(settings)

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        top = draw(losses_KSR, random)
        race = _Race(losses_KSR[top, 1:, -1], means_K[top], within, most_runs - _NUM_TPE)
        race.finish()
        choice = race.choice()
        return choice._replace(setting=top[choice.setting], num_runs=_NUM_TPE + choice.num_runs)

    return choose


def _draw_with_tpe(settings: list[tuple[float, ...]]) -> Callable[[Array, np.random.Generator], list[int]]:
    """The best five of 30 trials of Optuna's TPE, the best first."""

    def draw(losses_KSR: Array, random: np.random.Generator) -> list[int]:
        tried: dict[int, float] = {}
        for _, row, loss in islice(ask_tpe(settings, losses_KSR, random), _NUM_TPE):
            tried[row] = loss
        return sorted(tried, key=lambda row: tried[row])[:_NUM_TOP]

    return draw


def ask_tpe(
    settings: list[tuple[float, ...]], losses_KSR: Array, random: np.random.Generator
) -> Iterator[tuple[optuna.Study, int, float]]:
    """Trials of Optuna's TPE without end: the study, the setting's row and its loss with the first seed."""
    axes = [sorted({setting[place] for setting in settings}) for place in range(len(settings[0]))]
    rows = {setting: row for row, setting in enumerate(settings)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=int(random.integers(2**31)), multivariate=True)
        study = optuna.create_study(sampler=sampler)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = study.ask()
            places = [trial.suggest_int(str(place), 0, len(axis) - 1) for place, axis in enumerate(axes)]
        row = rows[tuple(axis[place] for axis, place in zip(axes, places, strict=True))]
        loss = float(losses_KSR[row, 0, -1])
        study.tell(trial, loss)
        yield study, row, loss


def halve_by_curves(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
    """Successive halving on held-out losses (as ASHA without waiting): a third goes on at a quarter and at a half."""
    num_rungs = losses_KSR.shape[2]
    alive, runs = np.arange(len(losses_KSR)), 0.0
    for share, before in ((0.25, 0.0), (0.5, 0.25), (1.0, 0.5)):
        runs += len(alive) * (share - before)
        order = losses_KSR[alive, 0, round(share * num_rungs) - 1].argsort()
        alive = alive[order[: max(1, len(alive) // _HALVING)]]
    return Choice(int(alive[0]), runs)


def race_after_curves(within: float, most_runs: float) -> Method:
    """First seeds in random order under `pruner=schedule`, then the race of those that reached their end, while a whole
    round still fits into `most_runs`."""

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        race = _Race(losses_KSR[:, :, -1], means_K, within, most_runs)
        seen: dict[float, list[float]] = {rung: [] for rung in _RUNGS}
        for row in random.permutation(len(losses_KSR)):
            end = next((rung for rung in _RUNGS if not _passes(losses_KSR[row, 0], rung, seen[rung])), 1.0)
            race.num_runs += end
            if end < 1:
                race.out_K[row] = True
            else:
                race.known_KS[row, 0] = losses_KSR[row, 0, -1]
        race.finish()
        return race.choice()

    return choose


def recommend(settings: Sequence[Point], first: Sequence[int], within: float, most_runs: float) -> Method:
    """What `action=recommend` does: the race among the `first` of the settings and, before any second seed, further
    rates where the best is at an end; then beside its leader, while a whole round still fits into `most_runs`."""
    axes = [list({setting[place] for setting in settings}) for place in range(len(settings[0]))]
    rates = sorted({float(setting[_RATE]) for setting in settings})  # type: ignore[arg-type]
    rows = {setting: row for row, setting in enumerate(settings)}

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        race = _Race(losses_KSR[:, :, -1], means_K, within, most_runs)
        race.joined_K[:] = False
        stage, tried, new = 0, list[Point](), list(first)
        while new and race.run_first_seeds(new):
            tried += [settings[row] for row in new]
            leader = settings[int(np.nanargmin(race.known_KS[:, 0]))]
            new = [rows[point] for point in list_further(rates, _RATE, leader, tried)]
            stage += bool(new)
        while True:
            race.error_share = share_error(stage)
            race.finish()
            beside = list_neighbors(axes, settings[int(race.standing.leader)], set(tried))
            if race.is_spent or not beside:
                return race.choice()
            race.joined_K[[rows[point] for point in beside]] = True
            stage, tried = stage + 1, tried + beside

    return choose


def _passes(losses_R: Array, rung: float, seen: list[float]) -> bool:
    """Whether a curve is among the best half of those that were at the rung before; it joins them."""
    loss = float(losses_R[round(rung * len(losses_R)) - 1])
    seen.append(loss)
    return loss <= sorted(seen)[max(1, len(seen) // _KEEP_ONE_IN) - 1]


def halve_by_seeds(num_runs: float) -> Method:
    """Sequential halving (Karnin et al. 2013): as many runs a round, shared by half as many settings each time."""

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        alive, used, seeds = np.arange(len(losses_KSR)), 0, 0
        num_rounds = math.ceil(math.log2(len(alive)))
        for _ in range(num_rounds):
            each = max(1, int(num_runs / (num_rounds * len(alive))))
            seeds = min(seeds + each, losses_KSR.shape[1])
            used += each * len(alive)
            order = losses_KSR[alive, :seeds, -1].mean(axis=1).argsort()
            alive = alive[order[: (len(alive) + 1) // 2]]
        return Choice(int(alive[0]), used)

    return choose


def race_within(within: float, is_log: bool = True, is_uniform: bool = False) -> Method:
    """The race until nobody can be better by more than `within`; `is_uniform`: a seed of every setting each round."""

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        race = _Race(losses_KSR[:, :, -1], means_K, within, math.inf, is_log, is_uniform)
        race.finish()
        return race.choice()

    return choose


class _Race:
    """A race on losses that are known, round by round."""

    def __init__(
        self,
        losses_KS: Array,
        means_K: Array,
        within: float,
        most_runs: float,
        is_log: bool = True,
        is_uniform: bool = False,
    ) -> None:
        self.known_KS = np.full(losses_KS.shape, math.nan)
        self.out_K, self.joined_K = np.zeros(len(losses_KS), dtype=bool), np.ones(len(losses_KS), dtype=bool)
        self.num_runs, self.error_share, self.is_spent = 0.0, 1.0, False
        self._losses_KS, self._means_K, self._within, self._most_runs = losses_KS, means_K, within, most_runs
        self._is_log, self._is_uniform, self._was_wrong = is_log, is_uniform, False

    def run_first_seeds(self, rows: list[int]) -> bool:
        """Has settings join with their first seed; false where they do not fit any more."""
        self.is_spent = self.num_runs + len(rows) > self._most_runs
        if not self.is_spent:
            self.joined_K[rows], self.known_KS[rows, 0] = True, self._losses_KS[rows, 0]
            self.num_runs += len(rows)
        return not self.is_spent

    def finish(self) -> None:
        """Runs rounds until nothing is left to ask, or the next one does not fit any more."""
        while True:
            rows, table = np.flatnonzero(self.joined_K), self._tabulate()
            runs = choose_runs(table, judge_race(table), self._within)
            if self._is_uniform and runs:
                runs = [Run(row, int(table.counts_K.max())) for row in range(len(rows))]
            self.is_spent = bool(runs) and self.num_runs + len(runs) > self._most_runs
            if not runs or self.is_spent:
                return
            for setting, seed in runs:
                self.known_KS[rows[setting], seed] = self._losses_KS[rows[setting], seed]
            self.num_runs += len(runs)
            standing = self.standing
            lost = self._means_K[standing.leader] - self._means_K[self.joined_K].min()
            self._was_wrong |= bool(lost > standing.bound + 1e-12)

    def _tabulate(self) -> RaceTable:
        joined = self.joined_K
        return RaceTable(self.known_KS[joined], self.out_K[joined], self._is_log, self.error_share)

    @property
    def standing(self) -> Standing:
        """Where it stands; the leader is a row of the whole table."""
        standing = judge_race(self._tabulate())
        assert standing is not None
        return replace(standing, leader=int(np.flatnonzero(self.joined_K)[standing.leader]))

    def choice(self) -> Choice:
        """What the race ends with."""
        standing = self.standing
        is_decided = bool((standing.bounds_K <= self._within).all())
        return Choice(standing.leader, self.num_runs, standing.bound, is_decided, self._was_wrong)
