"""Simulated studies whose true means are known: settings, seeds, and what moves a run away from its setting's mean."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sweeplab.statistics.factorial import build_main_effects
from sweeplab.statistics.intervals import Array
from sweeplab.statistics.results import ResultTable

AHEAD: Final = 6.0  # by so many standard deviations of one run the better half is ahead
_BASE_LOSS: Final = 2.0
_NUM_TOGGLES: Final = 6
MASKS_KA: Final = np.array([mask for mask in itertools.product((0, 1), repeat=_NUM_TOGGLES) if any(mask)])
RATIOS: Final = {  # mean square of what seeds do to a toggle's main effect, over that of the rest
    "no": (1.0,) * _NUM_TOGGLES,
    "5 times": (5.0,) * _NUM_TOGGLES,
    "as in targets": (2.7, 1.1, 1.2, 5.9, 10.4, 6.0),
    "as in budget": (0.5, 2.3, 6.7, 0.45, 24.4, 1.0),
}


class Study(NamedTuple):
    """What a report would analyze, and what is true."""

    table: ResultTable
    sign: int  # 1: a larger value is better
    effects_K: Array  # true means, which differences and contrasts are about; larger may be worse, see `sign`
    means_K: Array | None  # true means given the study's items, which the intervals of means are about; None: unclear
    deviation: float  # of one run, on the scale of the analysis


class Drawer(Protocol):
    """Draws one study of a kind."""

    def __call__(self, random: np.random.Generator, world: str, num_settings: int, num_seeds: int) -> Study: ...


def draw_advantages(random: np.random.Generator, world: str, num_settings: int, ahead: float = AHEAD) -> Array:
    """How much better each setting is, in standard deviations of one run."""
    if world == "graded":
        return random.normal(size=num_settings)
    advantages_K = np.zeros(num_settings)
    if world == "half":
        advantages_K[(num_settings + 1) // 2 :] = -ahead
    return advantages_K


def draw_noise(random: np.random.Generator, kind: str, shape: tuple[int, int]) -> tuple[Array, float]:
    """Deviations of runs of a typical standard deviation of 1, and their mean."""
    name, *numbers = kind.split()
    if name == "t3":
        return random.standard_t(3, size=shape) / 3**0.5, 0.0
    noise_KS = random.normal(size=shape)
    if name == "lognormal":
        noise_KS *= np.exp(float(numbers[0]) * random.normal(size=(shape[0], 1)))
    if name == "collapse":
        share, size = (float(number) for number in numbers)
        return noise_KS - size * (random.random(shape) < share), -share * size
    if name == "common":
        noise_KS += float(numbers[0]) * random.normal(size=shape[1])
    return noise_KS, 0.0


@dataclass(frozen=True)
class Additive:
    """Values that are a setting's mean plus noise of a kind."""

    kind: str = "equal"

    def __call__(self, random: np.random.Generator, world: str, num_settings: int, num_seeds: int) -> Study:
        advantages_K = draw_advantages(random, world, num_settings)
        noise_KS, mean = draw_noise(random, self.kind, (num_settings, num_seeds))
        return Study(ResultTable(advantages_K[:, None] + noise_KS), 1, advantages_K, advantages_K + mean, 1.0)


@dataclass(frozen=True)
class Proportional:
    """Losses with a spread that is proportional to the mean, and a common effect of the seed in proportion, too."""

    is_log: bool
    spread: float = 0.2
    common: float = 0.0  # times `spread`

    def __call__(self, random: np.random.Generator, world: str, num_settings: int, num_seeds: int) -> Study:
        middles_K = _BASE_LOSS * np.exp(-self.spread * draw_advantages(random, world, num_settings))
        noise_KS = random.normal(size=(num_settings, num_seeds)) + self.common * random.normal(size=num_seeds)
        means_K = middles_K * np.exp(self.spread**2 * (1 + self.common**2) / 2)
        values_KS = middles_K[:, None] * np.exp(self.spread * noise_KS)
        deviation = self.spread if self.is_log else self.spread * _BASE_LOSS
        return Study(ResultTable(values_KS, is_log=self.is_log), -1, means_K, means_K, deviation)


@dataclass(frozen=True)
class Masks:
    """All masks of six toggles but the empty one. A seed acts on all settings with a toggle alike."""

    ratios: str

    def __call__(self, random: np.random.Generator, world: str, num_settings: int, num_seeds: int) -> Study:
        squares_A = np.maximum(np.array(RATIOS[self.ratios]) - 1, 0) / (num_settings / 4)
        by_seed_AS = np.sqrt(squares_A)[:, None] * random.normal(size=(_NUM_TOGGLES, num_seeds))
        advantages_K = draw_advantages(random, world, num_settings)
        centred_KA = MASKS_KA - MASKS_KA.mean(axis=0)
        values_KS = advantages_K[:, None] + random.normal(size=(num_settings, num_seeds)) + centred_KA @ by_seed_AS
        table = ResultTable(values_KS, main_KQ=build_main_effects(MASKS_KA))
        return Study(table, 1, advantages_K, advantages_K, 1.0)


def weigh_toggles() -> Array:
    """Weights of each toggle's main effect, shape (6, K): on minus off, over the pairs that differ in nothing else."""
    weights_AK = np.zeros((_NUM_TOGGLES, len(MASKS_KA)))
    index_of = {tuple(mask): index for index, mask in enumerate(MASKS_KA.tolist())}
    for toggle, weights_K in enumerate(weights_AK):
        for mask, index in index_of.items():
            off = tuple(0 if one == toggle else value for one, value in enumerate(mask))
            if mask[toggle] and off in index_of:
                weights_K[index], weights_K[index_of[off]] = 1.0, -1.0
        weights_K /= weights_K.clip(min=0).sum()
    return weights_AK


def _lose_some(values_KS: Array, lost_KS: NDArray[np.bool_]) -> Array:
    """The values without the lost runs; a setting that would have none keeps its first."""
    kept_KS = ~lost_KS
    kept_KS[~kept_KS.any(axis=1), 0] = True
    return np.where(kept_KS, values_KS, np.nan)


def lose_at_random(random: np.random.Generator, values_KS: Array) -> ResultTable:
    """A tenth of the runs is lost, whatever their values are."""
    return ResultTable(_lose_some(values_KS, random.random(values_KS.shape) < 0.1))


def drop_worst(random: np.random.Generator, values_KS: Array) -> ResultTable:
    """Runs below a limit fail, and nothing more is known: a tenth where all are alike."""
    return ResultTable(_lose_some(values_KS, values_KS < _LIMIT))


def count_as_worst(random: np.random.Generator, values_KS: Array) -> ResultTable:
    """Runs below a limit fail and count as the worst value of those that did not; their settings cannot be the best."""
    failed_KS = values_KS < _LIMIT
    eligible_K = np.logical_not(failed_KS.any(axis=1))
    worst = float(np.where(failed_KS, np.inf, values_KS).min())
    return ResultTable(np.where(failed_KS, worst, values_KS), eligible_K=eligible_K)


_LIMIT: Final = -1.2816  # a tenth of normal values is below


@dataclass(frozen=True)
class Incomplete:
    """Runs that do not exist. The worse half is behind by 2 standard deviations: some of its runs succeed."""

    lose: Callable[[np.random.Generator, Array], ResultTable]

    def __call__(self, random: np.random.Generator, world: str, num_settings: int, num_seeds: int) -> Study:
        ahead = AHEAD if self.lose is lose_at_random else 2.0
        advantages_K = draw_advantages(random, world, num_settings, ahead)
        values_KS = advantages_K[:, None] + random.normal(size=(num_settings, num_seeds))
        means_K = None if self.lose is count_as_worst else advantages_K
        return Study(self.lose(random, values_KS), 1, advantages_K, means_K, 1.0)
