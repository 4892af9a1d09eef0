"""What each value of a key does whatever the others are, and which two keys do more, or less, together than apart."""

import itertools
from typing import Any, Final

import numpy as np

from sweeplab.config.space import identify_params
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import (
    format_interval,
    format_mean,
    format_metric,
    format_value,
    label_metric,
    shorten_key,
)
from sweeplab.report.evidence.settings import collect_records, list_axis_values, list_varied_keys
from sweeplab.report.findings.claim_settings import weigh_pair
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.statistics.intervals import LEVEL, Array, Estimate

EXPLAINED_EFFECTS: Final = (
    "The mean over settings with the one value minus that over settings with the other, which are alike in everything "
    "else; of two keys, what one of them does where the other has its second value minus what it does where the other "
    "has its first. The intervals of a table hold for all its rows at once (Bonferroni), and however often one looks."
)
_FEWEST_KEYS: Final = 3  # fewer are seen in one figure
_MOST_LEVELS: Final = 8  # of a key; more are drawn from a range
_MOST_PAIRS: Final = 10


def _list_levels(facts: StudyFacts, evidence: Evidence) -> dict[str, list[Any]]:
    """The values of each key that has some, few enough to compare them one by one; none for fewer keys than three."""
    records = collect_records(evidence.settings)
    keys = list_varied_keys(facts, records)
    levels = {key: list_axis_values(facts, records, key) for key in keys}
    varied = {key: values for key, values in levels.items() if len(values) > 1}
    if len(varied) < _FEWEST_KEYS:
        return {}
    return {key: values for key, values in varied.items() if len(values) <= _MOST_LEVELS}


def build_main_effects_table(facts: StudyFacts, evidence: Evidence) -> Table | None:
    """Each value of a key against the one before it, whatever the other keys are; the largest difference first."""
    levels = _list_levels(facts, evidence)
    compared = [
        (key, before, after, weights_K)
        for key, values in levels.items()
        for before, after in itertools.pairwise(values)
        if (weights_K := weigh_pair(evidence, {key: after}, {key: before})) is not None
    ]
    if not compared:
        return None
    level = 1 - (1 - LEVEL) / len(compared)
    rows = []
    for key, before, after, weights_K in compared:
        name = f"{shorten_key(key, list(levels))}={format_value(after)}"
        count = str(np.count_nonzero(weights_K > 0))
        estimate = evidence.contrast(weights_K, level)
        rows.append([Cell(name, f"rather than {format_value(before)}"), _effect_cell(evidence, estimate), Cell(count)])
    rows.sort(key=lambda row: -abs(row[1].size or 0.0))
    titles = [Column("value", numeric=False), Column(f"{label_metric(evidence.metric)}, difference", "95 %")]
    return Table([*titles, Column("pairs of settings")], rows)


def build_pairs_table(facts: StudyFacts, evidence: Evidence) -> Table | None:
    """Of each two keys with two values: the means of the four combinations, and how far the keys act on each other."""
    levels = {key: values for key, values in _list_levels(facts, evidence).items() if len(values) == 2}
    found = [
        (first, second, corners)
        for first, second in itertools.combinations(levels, 2)
        if (corners := _find_corners(evidence, (first, levels[first]), (second, levels[second]))) is not None
    ]
    if not found:
        return None
    level = 1 - (1 - LEVEL) / len(found)
    rows = []
    for first, second, corners in found:
        names = [shorten_key(key, list(levels)) for key in (first, second)]
        texts = [[format_value(value) for value in levels[key]] for key in (first, second)]
        estimate = evidence.contrast(corners[3] - corners[2] - corners[1] + corners[0], level)
        means = [float(weights_K @ evidence.table.means_K) for weights_K in corners]
        cells = [
            Cell(format_metric(evidence.metric, mean), f"{one}, {other}")
            for mean, (one, other) in zip(means, itertools.product(*texts), strict=True)
        ]
        rows.append([Cell(" × ".join(names)), _effect_cell(evidence, estimate), *cells])
    rows.sort(key=lambda row: -abs(row[1].size or 0.0))
    corners_titles = [Column(title) for title in ("neither", "second", "first", "both")]
    titles = [Column("keys", numeric=False), Column("together rather than apart", "95 %"), *corners_titles]
    return Table(titles, rows[:_MOST_PAIRS])


def _find_corners(
    evidence: Evidence, first: tuple[str, list[Any]], second: tuple[str, list[Any]]
) -> list[Array] | None:
    """Weights of the four means, over settings whose other values are there in all four combinations, in their order;
    None without any."""
    members: list[dict[str, int]] = []
    for values in itertools.product(first[1], second[1]):
        wanted = dict(zip((first[0], second[0]), values, strict=True))
        members.append(
            {
                identify_params({key: value for key, value in one.params.items() if key not in wanted}): index
                for index, one in enumerate(evidence.settings)
                if all(key in one.params and one.params[key] == value for key, value in wanted.items())
            }
        )
    shared = sorted(set.intersection(*(set(one) for one in members)))
    if not shared:
        return None
    corners = []
    for one in members:
        weights_K = np.zeros(len(evidence.settings))
        weights_K[[one[other] for other in shared]] = 1 / len(shared)
        corners.append(weights_K)
    return corners


def _effect_cell(evidence: Evidence, estimate: Estimate) -> Cell:
    return Cell(format_mean(evidence.metric, estimate), format_interval(evidence.metric, estimate), estimate.value)
