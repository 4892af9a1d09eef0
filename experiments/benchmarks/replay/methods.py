"""How people choose a setting, replayed on losses that are known: what each runs, and what it says."""

import math
import warnings
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import optuna

from sweeplab.statistics.intervals import Array
from sweeplab.statistics.race import RaceTable, Run, choose_runs, judge_race

_NUM_TPE: Final = 30
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
    axes = [sorted({setting[place] for setting in settings}) for place in range(len(settings[0]))]
    rows = {setting: row for row, setting in enumerate(settings)}

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(seed=int(random.integers(2**31)), multivariate=True)
            study = optuna.create_study(sampler=sampler)
            tried: dict[int, float] = {}
            for _ in range(_NUM_TPE):
                trial = study.ask()
                places = [trial.suggest_int(str(place), 0, len(axis) - 1) for place, axis in enumerate(axes)]
                row = rows[tuple(axis[place] for axis, place in zip(axes, places, strict=True))]
                tried[row] = float(losses_KSR[row, 0, -1])
                study.tell(trial, tried[row])
        top = sorted(tried, key=lambda row: tried[row])[:_NUM_TOP]
        means = losses_KSR[top, 1:4, -1].mean(axis=1)
        return Choice(top[int(means.argmin())], _NUM_TPE + 3 * len(top))

    return choose


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
        num_settings, num_seeds, _ = losses_KSR.shape
        known_KS, out_K = np.full((num_settings, num_seeds), math.nan), np.zeros(num_settings, dtype=bool)
        seen: dict[float, list[float]] = {rung: [] for rung in _RUNGS}
        num_runs = 0.0
        for row in random.permutation(num_settings):
            end = next((rung for rung in _RUNGS if not _passes(losses_KSR[row, 0], rung, seen[rung])), 1.0)
            num_runs += end
            if end < 1:
                out_K[row] = True
            else:
                known_KS[row, 0] = losses_KSR[row, 0, -1]
        while True:
            table = RaceTable(known_KS.copy(), out_K, is_log=True)
            runs = choose_runs(table, within)
            if not runs or num_runs + len(runs) > most_runs:
                standing = judge_race(table)
                assert standing is not None
                return Choice(standing.leader, num_runs)
            for setting, seed in runs:
                known_KS[setting, seed] = losses_KSR[setting, seed, -1]
            num_runs += len(runs)

    return choose


def recommend(rows: list[int], within: float, most_runs: float) -> Method:
    """What `action=recommend` does: the race among settings around the published rate, while a whole round still fits
    into `most_runs`."""

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        known_KS, out_K, num_runs = np.full((len(rows), losses_KSR.shape[1]), math.nan), np.zeros(len(rows), bool), 0
        while True:
            table = RaceTable(known_KS.copy(), out_K, is_log=True)
            runs = choose_runs(table, within)
            if not runs or num_runs + len(runs) > most_runs:
                standing = judge_race(table)
                assert standing is not None
                was_wrong = bool(means_K[rows[standing.leader]] - means_K[rows].min() > standing.bound + 1e-12)
                is_decided = not len(standing.find_open(within))
                return Choice(rows[standing.leader], num_runs, standing.bound, is_decided, was_wrong)
            for setting, seed in runs:
                known_KS[setting, seed] = losses_KSR[rows[setting], seed, -1]
            num_runs += len(runs)

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
        known_KS = np.full(losses_KSR.shape[:2], math.nan)
        out_K = np.zeros(len(known_KS), dtype=bool)
        num_runs, was_wrong = 0, False
        while True:
            table = RaceTable(known_KS.copy(), out_K, is_log)
            standing = judge_race(table) if num_runs else None
            if standing is not None:
                was_wrong |= bool(means_K[standing.leader] - means_K.min() > standing.bound + 1e-12)
            runs = choose_runs(table, within)
            if not runs:
                assert standing is not None
                decided = not len(standing.find_open(within))
                return Choice(standing.leader, num_runs, standing.bound, decided, was_wrong)
            if is_uniform:
                seed = int(table.counts_K.max())
                runs = [Run(row, seed) for row in range(len(known_KS))]
            for setting, seed in runs:
                known_KS[setting, seed] = losses_KSR[setting, seed, -1]
            num_runs += len(runs)

    return choose
