"""What a method is replayed on: tables of real trials, and simulated studies whose best setting is known."""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from sweeplab.statistics.intervals import Array

_NUM_KEYS: Final = 3  # rate, rank and alpha_ratio, the first columns of a table
_COLLAPSE: Final = 8.0  # standard deviations of an occasional collapse
_UNLIKE: Final = np.exp(0.5 * np.random.default_rng(1).normal(size=64))  # spreads of settings, lognormal


@dataclass(frozen=True)
class Table:
    """Every setting of a real study with every seed; losses at equal shares of the schedule."""

    name: str
    settings: list[tuple[float, ...]]
    losses_KSR: Array  # the last of R is the final one
    tokens: float  # of a whole trial

    @cached_property
    def means_K(self) -> Array:
        """What each setting is worth: the geometric mean of its final losses."""
        means: Array = np.exp(np.log(self.losses_KSR[:, :, -1]).mean(axis=1))
        return means

    def draw(self, random: np.random.Generator, num_seeds: int) -> Array:
        """A study with `num_seeds` new seeds: whole curves, as unlike and as alike as those of the table.

        The logarithms of a new seed are the settings' means plus the table's residuals with normal weights, the same
        for all settings: their variances and covariances are the table's. (The table's own seeds drawn again would
        repeat, and two equal runs have no spread.)
        """
        logs_KSR = np.log(self.losses_KSR)
        means_KR = logs_KSR.mean(axis=1)
        weights_NS = random.normal(size=(num_seeds, logs_KSR.shape[1])) / math.sqrt(logs_KSR.shape[1] - 1)
        drawn: Array = np.exp(means_KR[:, None] + np.einsum("ns,ksr->knr", weights_NS, logs_KSR - means_KR[:, None]))
        return drawn


def read_table(path: Path) -> Table:
    """A table that `tables.py` wrote. Raises `ValueError` where a run is missing or did not finish."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    first = header.index("num_train_tokens") + 1
    by_setting: dict[tuple[float, ...], list[list[float]]] = {}
    for row in rows:
        setting = tuple(float(value) for value in row[:_NUM_KEYS])
        by_setting.setdefault(setting, []).append([float(value) for value in row[first:]])
    if len({len(runs) for runs in by_setting.values()}) != 1:
        raise ValueError(f"{path} lacks runs of some settings")
    losses_KSR = np.array(list(by_setting.values()))
    return Table(path.stem, list(by_setting), losses_KSR, float(np.mean([float(row[first - 1]) for row in rows])))


@dataclass(frozen=True)
class Shape:
    """Simulated studies in which setting 0 is better than all others, which are alike, by a little over `within`."""

    name: str
    num_settings: int
    within: float
    spread_K: Array
    noise: Callable[[np.random.Generator, tuple[int, int]], Array]
    common: float = 0.0  # what a seed does to all settings

    @property
    def means_K(self) -> Array:
        lead = self.within + max(0.05, 0.05 * self.within)
        return np.array([-lead, *[0.0] * (self.num_settings - 1)])

    def draw(self, random: np.random.Generator, num_seeds: int) -> Array:
        """Losses of all settings with `num_seeds` seeds."""
        noise_KS = self.noise(random, (self.num_settings, num_seeds))
        drawn: Array = self.means_K[:, None] + self.spread_K[:, None] * noise_KS
        return drawn + self.common * random.normal(size=num_seeds)


def _draw_normal(random: np.random.Generator, size: tuple[int, int]) -> Array:
    return random.normal(size=size)


def _draw_heavy(random: np.random.Generator, size: tuple[int, int]) -> Array:
    return np.asarray(random.standard_t(3, size=size) / math.sqrt(3))


def _draw_skewed(random: np.random.Generator, size: tuple[int, int]) -> Array:
    sigma2 = 0.64
    raw: Array = np.exp(math.sqrt(sigma2) * random.normal(size=size)).astype(np.float64)
    drawn: Array = (raw - math.exp(sigma2 / 2)) / math.sqrt((math.exp(sigma2) - 1) * math.exp(sigma2))
    return drawn


def _draw_collapsing(random: np.random.Generator, size: tuple[int, int]) -> Array:
    happens = (random.random(size) < 0.03).astype(np.float64)
    drawn: Array = random.normal(size=size) + _COLLAPSE * (happens - 0.03)
    return drawn


def list_shapes() -> Iterator[Shape]:
    """Twelve shapes: few and many settings, unlike spreads, heavy and skewed tails, collapses, a common effect."""
    for count in (4, 16, 64):
        yield Shape(f"{count} settings, alike", count, 2.0, np.ones(count), _draw_normal)
        yield Shape(f"{count} settings, unlike spreads", count, 2.0, _UNLIKE[:count], _draw_normal)
    yield Shape("16 settings, the best spreads 3 times as much", 16, 2.0, np.r_[3.0, np.ones(15)], _draw_normal)
    yield Shape("16 settings, t with 3 degrees of freedom", 16, 2.0, np.ones(16), _draw_heavy)
    yield Shape("16 settings, lognormal tails", 16, 2.0, np.ones(16), _draw_skewed)
    yield Shape("16 settings, 3 % collapse", 16, 2.0, np.ones(16), _draw_collapsing)
    yield Shape("16 settings, seeds move all", 16, 2.0, np.ones(16), _draw_normal, common=3.0)
    yield Shape("16 settings, close together", 16, 0.5, np.ones(16), _draw_normal)
