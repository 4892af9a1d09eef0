"""Simulated trials with right and wrong answers."""

import numpy as np
from numpy.typing import NDArray

from sweeplab.statistics.intervals import Estimate
from sweeplab.statistics.results import ResultTable

Array = NDArray[np.float64]


def trials(
    random: np.random.Generator, num_settings: int, num_seeds: int, num_items: int = 60, ahead: float = 0.0
) -> Array:
    """Right and wrong answers of settings that are alike: items of unlike difficulty, seeds and settings that meet.

    The first setting is better by `ahead`, in logits.
    """
    logits = (
        random.normal(0, 1.5, (1, 1, num_items))
        + random.normal(0, 0.4, (num_settings, 1, num_items))
        + random.normal(0, 0.3, (num_settings, num_seeds, 1))
        + random.normal(0, 0.3, (1, num_seeds, 1))
    )
    logits[0] += ahead
    return (random.random((num_settings, num_seeds, num_items)) < 1 / (1 + np.exp(-logits))).astype(float)


def table_of(items_KSN: Array) -> ResultTable:
    return ResultTable(items_KSN.mean(axis=2), items_KSN, num_items=items_KSN.shape[2])


def covers_zero(estimate: Estimate) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= 0 <= estimate.high
