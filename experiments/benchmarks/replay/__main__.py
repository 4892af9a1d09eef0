"""Replays how settings are chosen, without training: `python -m experiments.benchmarks.replay [--draws 1000]`.

On the tables of real trials in `reports/benchmarks/replay/tables` (regret, runs, and whether what is said is so), and
on simulated studies (whether what is said is so at every look). Minutes; no trial is trained.
"""

import argparse
import math
import platform
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import optuna
import scipy

from experiments.benchmarks.replay.figure import Outcome, draw_regret
from experiments.benchmarks.replay.methods import (
    Choice,
    Method,
    halve_by_curves,
    halve_by_seeds,
    race_after_curves,
    race_finalists,
    race_within,
    recommend,
    search_with_tpe,
    try_every_setting,
    try_random,
)
from experiments.benchmarks.replay.stopping import (
    give_up_by_extrapolation,
    terminate_at_regret_bound,
    terminate_at_stagnation,
)
from experiments.benchmarks.replay.tables import TABLES
from experiments.benchmarks.replay.worlds import Shape, Table, list_shapes, read_table

REPORT: Final = Path("reports/benchmarks/replay/report.md")
_MOST_SEEDS: Final = 10
_BUDGETS: Final = (30, 45, 63)  # runs; TPE takes 45
_RANDOM_RUNS: Final = (38, 45)  # 45 are 1.2 times 38
_EXIT_DRAWS: Final = 40
_TERMINATED_DRAWS: Final = 5  # a study takes seconds
_SHARES: Final = (0.1, 1 / 3, 1.0, 3.0, 10.0)  # of the published rate
_LIKELY_RATIO: Final = 2.0  # alpha over rank
_OF_THE_TINY_BASE: Final = 3e-3  # the published rate, conf/priors.yaml
_PUBLISHED: Final = {"instructions": 1e-2, "alpaca": 1e-2}
_WITHIN: Final = (0.05, 0.1)  # of the best loss, as a share
_HEAD: Final = (
    "| method | runs | regret, mean | regret, worst of 20 | decided | said wrongly |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: |\n"
)
_SHAPES: Final = "Simulated studies"
_EXITS: Final = "Early exit"
_HALVING_SEEDS: Final = "sequential halving on seeds, as many runs"
_SHAPES_HEAD: Final = (
    f"\n## {_SHAPES}\n\nOne setting is better than all others by a little more than what may be lost; the "
    "others are alike.\n\n| studies | runs | of uniform seeds | decided | said wrongly at some look |\n"
    "| --- | ---: | ---: | ---: | ---: |\n"
)


def _replay(method: Method, world: Table | Shape, num_draws: int) -> list[Choice]:
    """The choices of a method in so many studies; every method sees the same ones."""
    random = np.random.default_rng(zlib.crc32(world.name.encode()))
    choices = []
    for _ in range(num_draws):
        losses = world.draw(random, _MOST_SEEDS)
        whole = losses if losses.ndim == 3 else losses[:, :, None]
        choices.append(method(whole, world.means_K, np.random.default_rng(random.integers(2**32))))
    return choices


def _share(count: int, of: int) -> str:
    """A share with twice its standard error."""
    share = count / of
    return f"{100 * share:.1f} ± {200 * math.sqrt(max(share * (1 - share), 1 / of) / of):.1f} %"


def _describe(name: str, choices: list[Choice], means_K: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    """A row of the table."""
    regrets = np.array([means_K[one.setting] / means_K.min() - 1 for one in choices])
    runs = np.array([one.num_runs for one in choices])
    error = 2 * runs.std() / math.sqrt(len(runs))
    shown = f"{runs.mean():.1f}" + (f" ± {error:.1f}" if error > 0.05 else "")
    says = choices[0].bound is not None
    decided = f"{100 * np.mean([one.is_decided for one in choices]):.0f} %" if says else ""
    wrong = _share(sum(one.was_wrong for one in choices), len(choices)) if says else ""
    worst = np.quantile(regrets, 0.95)
    return f"| {name} | {shown} | {100 * regrets.mean():.2f} % | {100 * worst:.2f} % | {decided} | {wrong} |\n"


def _list_recommended(table: Table) -> list[int]:
    """The settings that `action=recommend` tries, of those of the table."""
    rates = {rate for share in _SHARES for rate in _find_near(table, share * _find_published(table))}
    return [row for row, (rate, _, ratio) in enumerate(table.settings) if rate in rates and ratio == _LIKELY_RATIO]


def _find_published(table: Table) -> float:
    return _PUBLISHED.get(table.name, _OF_THE_TINY_BASE)


def _list_wrong_priors(table: Table) -> Iterator[tuple[str, list[float]]]:
    """Three rates at each end of the table, as a prior that is wrong by a factor of thirty begins."""
    rates = sorted({setting[0] for setting in table.settings})
    yield "the lowest", rates[:3]
    yield "the highest", rates[-3:]


def _find_near(table: Table, rate: float) -> list[float]:
    """The rate of the table that is equal but for rounding."""
    rates = {setting[0] for setting in table.settings}
    return [one for one in rates if abs(math.log(one / rate)) < math.log(1.2)]


def _list_methods(table: Table) -> Iterator[tuple[str, Method]]:
    best, count = float(table.means_K.min()), len(table.settings)
    first = _list_recommended(table)
    yield "every setting, 1 seed", try_every_setting(1)
    yield "every setting, 2 seeds", try_every_setting(2)
    yield "every setting, 3 seeds", try_every_setting(3)
    yield "random, a third of the settings", try_random(count // 3)
    yield "TPE 30, then 3 seeds of the best 5", search_with_tpe(table.settings)
    yield "TPE 30, then the race of the best 5, at most 45", race_finalists(table.settings, 0.02 * best, 45)
    ended = f"TPE until Optuna's terminator, {_TERMINATED_DRAWS} studies: "
    yield f"{ended}30 trials without a better one", terminate_at_stagnation(table.settings)
    yield f"{ended}regret bound below the seeds' spread", terminate_at_regret_bound(table.settings)
    yield "successive halving on curves, 1 seed", halve_by_curves
    for most_runs in _BUDGETS:
        yield f"recommend, at most {most_runs} runs", recommend(table.settings, first, 0.02 * best, most_runs)
    for name, rates in _list_wrong_priors(table):
        wrong = [row for row, (rate, _, ratio) in enumerate(table.settings) if rate in rates and ratio == _LIKELY_RATIO]
        yield f"recommend from {name} rates, at most 45 runs", recommend(table.settings, wrong, 0.02 * best, 45)
    for num_runs in _RANDOM_RUNS:
        yield f"random, {num_runs} runs", try_random(num_runs)
    for most_runs in _BUDGETS[1:]:
        yield f"curves, then the race, at most {most_runs} runs", race_after_curves(0.02 * best, most_runs)
    for share in _WITHIN:
        yield f"race, within {share:.0%}", race_within(share * best)
        yield f"the same bounds, uniform seeds, within {share:.0%}", race_within(share * best, is_uniform=True)


def _replay_table(
    table: Table, num_draws: int, outcomes: dict[str, Outcome], only: list[str], known: dict[str, str]
) -> Iterator[str]:
    """The rows of a table; `outcomes` gets what each method came to. Methods that `only` does not ask for stay as they
    are `known`."""
    num_settings, num_seeds, _ = table.losses_KSR.shape
    size = f"{num_settings} settings, {num_seeds} seeds, {table.tokens:,.0f} tokens a run."
    yield f"\n## {table.name}\n\n{size}\n\n{_HEAD}"
    budget = 0.0
    for name, method in _list_methods(table):
        row = None if _is_asked(name, only) else known.get(name)
        if row is None:
            choices = _replay(method, table, min(num_draws, _TERMINATED_DRAWS) if "terminator" in name else num_draws)
            row = _describe(name, choices, table.means_K)
        _, _, runs, regret, *_ = row.split("|")
        outcomes[name] = Outcome(float(regret.split()[0]) / 100, float(runs.split()[0]))
        budget = outcomes[name].num_runs if name == "race, within 10%" else budget
        yield row
    row = known.get(_HALVING_SEEDS)
    if row is None or _is_asked(_HALVING_SEEDS, only):
        row = _describe(_HALVING_SEEDS, _replay(halve_by_seeds(budget), table, num_draws), table.means_K)
    yield row


def _read_report() -> dict[str, dict[str, str]]:
    """The rows of the report by method, by heading."""
    rows: dict[str, dict[str, str]] = {}
    heading = ""
    for line in REPORT.read_text(encoding="utf-8").splitlines(keepends=True) if REPORT.exists() else []:
        heading = line[3:].strip() if line.startswith("## ") else heading
        if line.startswith("| "):
            rows.setdefault(heading, {})[line.split("|")[1].strip()] = line
    return rows


def _is_asked(name: str, only: list[str]) -> bool:
    return any(one in name for one in only)


def _list_early_exits(table: Table) -> Iterator[tuple[str, Method]]:
    """Ways to give up a trial before its end, each on one seed of all settings."""
    order_K = np.array([abs(round(math.log(one[0] / _find_published(table)), 1)) for one in table.settings])
    yield "a third goes on at a quarter and at a half", halve_by_curves
    for level in (0.8, 0.9, 0.95):
        yield f"extrapolated, behind at {level:.0%}", give_up_by_extrapolation(order_K, level, thaws=False)
    yield "extrapolated, behind at 90%, thawed", give_up_by_extrapolation(order_K, 0.9, thaws=True)


def _replay_early_exits(tables: list[Table], num_draws: int, only: list[str], known: dict[str, str]) -> Iterator[str]:
    """Of each method and table: share of all settings' tokens, and how often the best one reaches its end."""
    yield f"\n## {_EXITS}\n\n{_EXIT_DRAWS} studies: share of the tokens of all settings with one seed; how often the "
    yield "best one was kept.\n\n"
    yield f"| method | {' | '.join(table.name for table in tables)} |\n| --- |{' ---: |' * len(tables)}\n"
    for name, _ in _list_early_exits(tables[0]):
        if name in known and not _is_asked(name, only):
            yield known[name]
            continue
        cells = [_replay_early_exit(dict(_list_early_exits(table))[name], table, num_draws) for table in tables]
        yield f"| {name} | {' | '.join(cells)} |\n"


def _replay_early_exit(method: Method, table: Table, num_draws: int) -> str:
    random, used, num_kept = np.random.default_rng(zlib.crc32(table.name.encode())), 0.0, 0
    for _ in range(num_draws):
        losses_KSR = table.draw(random, 1)
        choice = method(losses_KSR, table.means_K, np.random.default_rng(random.integers(2**32)))
        used += choice.num_runs / len(table.settings) / num_draws
        num_kept += int(choice.setting == losses_KSR[:, 0, -1].argmin())
    return f"{used:.2f}, {_share(num_kept, num_draws)}"


def _replay_shapes(num_draws: int, only: list[str], known: dict[str, str]) -> Iterator[str]:
    yield _SHAPES_HEAD
    for shape in list_shapes():
        if shape.name in known and not _is_asked(shape.name, only):
            yield known[shape.name]
            continue
        race = _replay(race_within(shape.within, is_log=False), shape, num_draws)
        uniform = _replay(race_within(shape.within, is_log=False, is_uniform=True), shape, max(100, num_draws // 10))
        runs, others = (float(np.mean([one.num_runs for one in choices])) for choices in (race, uniform))
        wrong, decided = sum(one.was_wrong for one in race), np.mean([one.is_decided for one in race])
        shown = f"{runs:.1f} | {runs / others:.2f} | {100 * decided:.0f} % | {_share(wrong, num_draws)}"
        yield f"| {shape.name} | {shown} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000, help="studies that each method is replayed on")
    parser.add_argument("--shape-draws", type=int, default=2000, help="simulated studies of each shape")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names: the rest stays as it was reported")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options = f"--draws {arguments.draws} --shape-draws {arguments.shape_draws}"
    parts = [f"# How settings are chosen, replayed\n\n`python -m experiments.benchmarks.replay {options}`\n"]
    outcomes: list[dict[str, Outcome]] = []
    known, only = _read_report(), arguments.only
    tables = [read_table(path) for path in sorted(TABLES.glob("*.csv"))]
    for table in tables:
        outcomes.append({})
        for part in _replay_table(table, arguments.draws, outcomes[-1], only, known.get(table.name, {})):
            print(part, end="", flush=True)
            parts.append(part)
    for part in _replay_early_exits(tables, min(arguments.draws, _EXIT_DRAWS), only, known.get(_EXITS, {})):
        print(part, end="", flush=True)
        parts.append(part)
    for part in _replay_shapes(arguments.shape_draws, only, known.get(_SHAPES, {})):
        print(part, end="", flush=True)
        parts.append(part)
    REPORT.with_name("regret.svg").write_text(draw_regret(outcomes), encoding="utf-8")
    packages = f"NumPy {np.__version__}, SciPy {scipy.__version__}, Optuna {optuna.__version__}"
    versions = f"Python {platform.python_version()}, {packages}"
    REPORT.write_text("".join([*parts, f"\n{versions}.\n"]), encoding="utf-8")


if __name__ == "__main__":
    main()
