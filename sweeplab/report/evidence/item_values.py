"""Values by item as `statistics` needs them: their mean over the items is the score of the trial."""

import numpy as np

from sweeplab.records.items import ItemTable
from sweeplab.report.evidence.settings import Setting
from sweeplab.statistics.intervals import Array
from sweeplab.statistics.items import exponentiate_mean, linearize_ratio


def stack_item_values(
    settings: list[Setting], seeds: list[int], table: ItemTable | None, values_KS: Array
) -> Array | None:
    """Values by setting, seed and item, shape (K, S, N).

    None where those of a trial are missing, and where the scores `values_KS` are not their means: an F1, a correlation,
    or a perplexity of a file of earlier versions. A run that did not finish has for every item the value that it counts
    as, one that is missing NaN.
    """
    if table is None:
        return None
    rows = []
    for setting, values_S in zip(settings, values_KS, strict=True):
        for seed, value in zip(seeds, values_S, strict=True):
            numbers = [record.number for record in setting.finished if record.seed == seed]
            if any(number not in table.values for number in numbers):
                return None
            items = [list_mean_values(table, number) for number in numbers]
            rows.append(np.mean(items, axis=0) if items else np.array([value]))
    values_KSN = np.array(np.broadcast_arrays(*rows)).reshape(len(settings), len(seeds), -1)
    same = np.allclose(values_KSN.mean(axis=2), values_KS, rtol=1e-6, atol=1e-9, equal_nan=True)
    return values_KSN if same else None


def list_mean_values(table: ItemTable, number: int) -> Array:
    """The values of one trial by item, whose mean is its score."""
    values_N = np.array(table.values[number])
    if table.counts is not None:
        values_N = linearize_ratio(values_N, np.array(table.counts))
    return exponentiate_mean(values_N) if table.is_log else values_N
