"""Simulated studies that are scored on items: right and wrong answers, and losses by example."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from experiments.benchmarks.coverage.studies import AHEAD, Study
from sweeplab.statistics.intervals import Array
from sweeplab.statistics.results import ResultTable

_DIFFICULTY: Final = 1.5  # standard deviations in logits: of items
_BY_ITEM: Final = 0.4  # of an item for one setting
_BY_RUN: Final = 0.3  # of one run
_BY_SEED: Final = 0.3  # of a seed on all settings
_BEHIND: Final = 1.0  # of the worse half, in logits
_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(7)
_SHARES = _SHARES / _SHARES.sum()


def _average_answers(logits: Array, deviation: float) -> Array:
    """The mean of the logistic function over normal errors of the logits."""
    mean = np.zeros_like(logits)
    for node, share in zip(_NODES, _SHARES, strict=True):
        mean += share / (1 + np.exp(-logits - deviation * node))
    return mean


@dataclass(frozen=True)
class Shares:
    """Shares of independent items that are right with one probability: nothing but the count of right items spreads."""

    probability: float
    num_items: int

    def __call__(self, random: np.random.Generator, world: str, num_settings: int, num_seeds: int) -> Study:
        deviation = (self.probability * (1 - self.probability) / self.num_items) ** 0.5
        shares_K = np.full(num_settings, self.probability)
        if world == "half":  # near 0 the better half is ahead, else the worse one is behind
            better, worse = slice(None, (num_settings + 1) // 2), slice((num_settings + 1) // 2, None)
            shares_K[better if self.probability < 0.5 else worse] += (
                AHEAD * deviation * (1 if self.probability < 0.5 else -1)
            )
        hits_KS = random.binomial(self.num_items, shares_K[:, None], size=(num_settings, num_seeds))
        table = ResultTable(hits_KS / self.num_items, num_items=self.num_items)
        return Study(table, 1, shares_K, shares_K, deviation)


@dataclass(frozen=True)
class Answers:
    """Right and wrong answers to items of unlike difficulty, the same items for all runs.

    Without results by item, differences hold for these items, so that no item is easier for one setting.
    """

    middle: float  # in logits
    num_items: int
    has_items: bool

    def __call__(self, random: np.random.Generator, world: str, num_settings: int, num_seeds: int) -> Study:
        by_setting_K = np.zeros(num_settings)
        if world == "half":
            by_setting_K[(num_settings + 1) // 2 :] = -_BEHIND
        by_item = _BY_ITEM if self.has_items else 0.0
        logits_KN = (
            self.middle
            + by_setting_K[:, None]
            + _DIFFICULTY * random.normal(size=self.num_items)
            + by_item * random.normal(size=(num_settings, self.num_items))
        )
        by_run_KS = _BY_RUN * random.normal(size=(num_settings, num_seeds)) + _BY_SEED * random.normal(size=num_seeds)
        chances_KSN = 1 / (1 + np.exp(-logits_KN[:, None, :] - by_run_KS[..., None]))
        items_KSN = (random.random(chances_KSN.shape) < chances_KSN).astype(float)
        means_K = _average_answers(logits_KN, float(np.hypot(_BY_RUN, _BY_SEED))).mean(axis=1)
        everywhere = float(np.sqrt(_DIFFICULTY**2 + by_item**2 + _BY_RUN**2 + _BY_SEED**2))
        effects_K = _average_answers(self.middle + by_setting_K, everywhere) if self.has_items else means_K
        values_KS = items_KSN.mean(axis=2)
        table = ResultTable(values_KS, items_KSN if self.has_items else None, num_items=self.num_items)
        return Study(table, 1, effects_K, means_K, float(np.sqrt(means_K[0] * (1 - means_K[0]) / self.num_items)))


@dataclass(frozen=True)
class Losses:
    """Losses by example: of unlike length and difficulty, with errors in proportion to them.

    As a perplexity, exp(mean loss), they have no results by item: their mean is not the score.
    """

    num_items: int
    is_perplexity: bool
    spread: float = 0.02  # of one run, as a share; a seed moves all settings as much

    def __call__(self, random: np.random.Generator, world: str, num_settings: int, num_seeds: int) -> Study:
        typical_K = np.full(num_settings, 2.5)
        if world == "half":
            typical_K[(num_settings + 1) // 2 :] *= 1 + AHEAD * self.spread
        shape_KN = (num_settings, self.num_items)
        by_item_KN = 0.0 if self.is_perplexity else 0.05 * random.normal(size=shape_KN)
        losses_KN = typical_K[:, None] * np.exp(0.5 * random.normal(size=self.num_items) + by_item_KN)
        by_run_KS = self.spread * (random.normal(size=(num_settings, num_seeds)) + random.normal(size=num_seeds))
        left_KSN = 0.05 * random.normal(size=(num_settings, num_seeds, self.num_items))
        items_KSN = losses_KN[:, None, :] * np.exp(by_run_KS[..., None] + left_KSN)
        factor = np.exp(self.spread**2 + 0.05**2 / 2)
        if not self.is_perplexity:
            effects_K = typical_K * np.exp(0.5**2 / 2 + 0.05**2 / 2) * factor
            table = ResultTable(items_KSN.mean(axis=2), items_KSN, is_log=True)
            return Study(table, -1, effects_K, losses_KN.mean(axis=1) * factor, self.spread * 2**0.5)
        middles_K = losses_KN.mean(axis=1)
        own_K = 0.05 * np.sqrt((losses_KN**2).sum(axis=1)) / losses_KN.sum(axis=1)
        spreads_K = np.sqrt(2 * self.spread**2 + own_K**2)
        means_K = sum(
            share * np.exp(middles_K * np.exp(spreads_K * node)) for node, share in zip(_NODES, _SHARES, strict=True)
        )
        table = ResultTable(np.exp(items_KSN.mean(axis=2)), is_log=True)
        return Study(table, -1, means_K, means_K, float(middles_K[0] * spreads_K[0]))
