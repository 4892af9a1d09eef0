"""Whether a judge prefers a response for the place at which it is shown."""

from dataclasses import replace

import numpy as np
from scipy import stats

from sweeplab.statistics.intervals import LEVEL, Array, Estimate, estimate_without_error


def estimate_first_share(values_N: Array, level: float = LEVEL) -> Estimate:
    """The share of items that lean to the response shown first, with an exact interval.

    An item that was judged in both orders leans to the first where its value, the share of verdicts for the response
    shown first, is above a half, and to the second where it is below; at a half it says nothing, and counts for both.
    Of D items that lean, k to the first, the interval is that of Clopper and Pearson 1934 for k / D, scaled to all N
    items: it leaves a half out exactly where the two-sided sign test rejects.
    """
    num_items, num_first = len(values_N), int(np.sum(values_N > 0.5))
    num_leaning = num_first + int(np.sum(values_N < 0.5))
    scale = num_leaning / num_items
    if num_leaning == 0:
        return estimate_without_error(0.5)
    share = num_first / num_leaning
    found = stats.binomtest(num_first, num_leaning).proportion_ci(level)
    value, low, high = (0.5 + scale * (one - 0.5) for one in (share, found.low, found.high))
    return replace(estimate_without_error(value), low=float(low), high=float(high), covers="items")
