"""Methods that stop by themselves: Optuna's terminator ends a study, extrapolated curves end a trial."""

import math
import warnings
from itertools import islice
from typing import Final

import numpy as np
from optuna.terminator import BestValueStagnationEvaluator, RegretBoundEvaluator, StaticErrorEvaluator, Terminator
from scipy import stats

from experiments.benchmarks.replay.methods import Choice, Method, ask_tpe
from sweeplab.statistics.intervals import Array

_MOST_TRIALS: Final = 63
_LOOK_EVERY: Final = 9  # trials between two looks of the regret bound, each of which fits a Gaussian process
_NUM_WHOLE: Final = 6  # curves that reach their end before any is extrapolated


def terminate_at_regret_bound(settings: list[tuple[float, ...]]) -> Method:
    """TPE until Optuna's terminator (Makarova et al. 2022) says that less can be gained than seeds differ: its regret
    bound against the standard deviation of a setting's seeds, which is told to it; at most 63 trials."""

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        spread = float(np.median(losses_KSR[:, :, -1].std(axis=1, ddof=1)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = RegretBoundEvaluator(seed=int(random.integers(2**31)))
            terminator = Terminator(evaluator, StaticErrorEvaluator(spread))
        return _search(terminator, _LOOK_EVERY, settings, losses_KSR, random)

    return choose


def terminate_at_stagnation(settings: list[tuple[float, ...]]) -> Method:
    """TPE until Optuna's terminator has seen 30 trials without a better one; at most 63."""

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            terminator = Terminator(BestValueStagnationEvaluator(), StaticErrorEvaluator(0))
        return _search(terminator, 1, settings, losses_KSR, random)

    return choose


def _search(
    terminator: Terminator,
    look_every: int,
    settings: list[tuple[float, ...]],
    losses_KSR: Array,
    random: np.random.Generator,
) -> Choice:
    """The best trial of TPE when the terminator says so."""
    tried: dict[int, float] = {}
    for count, (study, row, loss) in enumerate(islice(ask_tpe(settings, losses_KSR, random), _MOST_TRIALS), start=1):
        tried[row] = loss
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if count % look_every == 0 and terminator.should_terminate(study):
                break
    return Choice(min(tried, key=lambda one: tried[one]), count)


def give_up_by_extrapolation(order_K: Array, level: float, thaws: bool) -> Method:
    """Every setting with one seed, the likeliest first; one is given up at the first measurement at which the end that
    a line through all whole curves predicts, less its error at `level`, lies behind the best end.

    `order_K`: smaller comes earlier, alike ones at random. `thaws`: once all have begun, those given up are looked at
    again with all curves, and go on where they may be the best after all.
    """

    def choose(losses_KSR: Array, means_K: Array, random: np.random.Generator) -> Choice:
        logs_KR = np.log(losses_KSR[:, 0])
        num_rungs = logs_KR.shape[1]
        shuffled = random.permutation(len(logs_KR))
        whole: list[int] = []
        given_up: dict[int, int] = {}  # the measurement at which that was, by setting

        def is_behind(row: int, rung: int) -> bool:
            return bool(_predict_least(logs_KR[whole], logs_KR[row, rung], rung, level) > logs_KR[whole, -1].min())

        for row in shuffled[np.argsort(order_K[shuffled], kind="stable")].tolist():
            rungs = range(num_rungs - 1) if len(whole) >= _NUM_WHOLE else ()
            rung = next((one for one in rungs if is_behind(row, one)), None)
            if rung is None:
                whole.append(row)
            else:
                given_up[row] = rung
        for row, rung in list(given_up.items()) if thaws else []:
            if not is_behind(row, rung):
                whole.append(row)
                del given_up[row]
        used = len(whole) + sum((rung + 1) / num_rungs for rung in given_up.values())
        return Choice(whole[int(logs_KR[whole, -1].argmin())], used)

    return choose


def _predict_least(whole_NR: Array, reached: float, rung: int, level: float) -> float:
    """The lower end of the prediction of a curve's end from what it has reached at a measurement."""
    before_N, end_N = whole_NR[:, rung], whole_NR[:, -1]
    design_N2 = np.stack([np.ones(len(before_N)), before_N], axis=1)
    inverse = np.linalg.inv(design_N2.T @ design_N2 + 1e-6 * np.eye(2))
    weights = inverse @ (design_N2.T @ end_N)
    df = len(before_N) - 2
    variance = float(((end_N - design_N2 @ weights) ** 2).sum()) / df
    point = np.array([1.0, reached])
    reach = float(stats.t.ppf(level, df)) * math.sqrt(max(variance, 1e-10) * (1 + point @ inverse @ point))
    return float(point @ weights) - reach
