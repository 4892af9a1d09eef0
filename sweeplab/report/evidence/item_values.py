"""Values by item as `statistics` needs them: their mean over the items is the score of the trial."""

from collections.abc import Sequence

import numpy as np

from sweeplab.records.items import Items, ItemTable
from sweeplab.records.record import TrialRecord, metric_value
from sweeplab.report.evidence.settings import Setting, list_scores
from sweeplab.statistics.intervals import Array
from sweeplab.statistics.items import exponentiate_mean, linearize_ratio, sum_clusters


def stack_item_values(
    settings: list[Setting], seeds: list[int], table: ItemTable | None, values_KS: Array
) -> Array | None:
    """Values by setting, seed and item, or cluster of items, shape (K, S, N).

    A run that does not exist is NaN, as in `values_KS`; one that has a value without any result, since it failed and
    counts as the worst, has that value on every item. None where the items of a result are missing, and where the
    scores are not their means: an F1, a correlation, or a perplexity of a file of earlier versions.
    """
    if table is None or not table.values:
        return None
    num_values = len(table.items if table.clusters is None else set(table.clusters))
    values_KSN = np.repeat(values_KS[..., None], num_values, axis=2)
    for setting, rows_SN in zip(settings, values_KSN, strict=True):
        for seed, row_N in zip(seeds, rows_SN, strict=True):
            numbers = [record.number for record in setting.finished if record.seed == seed]
            if any(number not in table.values for number in numbers):
                return None
            if numbers:
                row_N[:] = np.mean([list_mean_values(table, number) for number in numbers], axis=0)
    is_mean = np.allclose(values_KSN.mean(axis=2), values_KS, rtol=1e-6, atol=1e-9, equal_nan=True)
    return values_KSN if is_mean else None


def list_mean_values(table: ItemTable, number: int) -> Array:
    """The values of one trial by item, or by cluster of items, whose mean is its score."""
    values_N = np.array(table.values[number])
    if table.counts is not None:
        values_N = linearize_ratio(values_N, np.array(table.counts))
    if table.is_log:
        values_N = exponentiate_mean(values_N)
    return values_N if table.clusters is None else sum_clusters(values_N, np.array(table.clusters))


def list_without_items(records: Sequence[TrialRecord], items: Items | None) -> list[str]:
    """The scores that are no mean of their items, and no ratio of sums over them; none where no items are stored."""
    if items is None:
        return []
    names = [f"scores.{task}.{metric}" for task, metric in list_scores(records)]
    return [name for name in names if name not in items or not _gives_scores(items[name], records, name)]


def _gives_scores(table: ItemTable, records: Sequence[TrialRecord], name: str) -> bool:
    """True where every trial's score is what its items say."""
    pairs = [(record.number, metric_value(record, name)) for record in records if record.number in table.values]
    return all(
        value is None or np.isclose(list_mean_values(table, number).mean(), value, rtol=1e-6, atol=1e-9)
        for number, value in pairs
    )
