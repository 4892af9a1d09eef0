"""Compares the settings with the best one: differences with intervals, and how many seeds or items are needed."""

import statistics
from typing import Final

from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import (
    DASH,
    count_noun,
    format_difference,
    format_interval,
    format_mean,
    format_metric,
    label_metric,
)
from sweeplab.report.findings.table import Cell, Column, Table, merge_equal_rows
from sweeplab.statistics.comparison import Comparison
from sweeplab.statistics.intervals import find_t, level_with
from sweeplab.statistics.power import POWER, count_items_needed, count_seeds_needed, find_least_difference
from sweeplab.statistics.spreads import TEST_LEVEL

_COVERAGE: Final = {
    "seeds": "another seed on the same items",
    "items": "other items, but not another seed",
    "seeds and items": "another seed and other items",
    "nothing": "nothing",
}
_OF_TWO_SEEDS: Final = (  # `lognormal 1, 7 settings, seeds 2` of reports/benchmarks/coverage
    "With two seeds it is 93 of 100 where settings spread very unlike (of two, one typically 2.6 times as much as the "
    "other), which two seeds hardly show; a third seed mends that."
)
_MAX_APART: Final = 4  # settings in a sentence


def build_comparison_table(evidence: Evidence, compared: Comparison) -> Table:
    """For every setting, the best first: the difference from that, whether it is clearly worse, what would tell."""
    with_items = compared.seed_deviations is None and compared.item_deviations is not None
    columns = [
        Column("setting", numeric=False),
        Column(f"{label_metric(evidence.metric)}, minus the best's", "95 % for all at once"),
        Column("clearly worse", numeric=False),
        Column("seeds needed", "for a difference as seen"),
        *([Column("items needed", "with this seed")] if with_items else []),
    ]
    rows = []
    effects = (evidence.sign * evidence.table.effects_K).tolist()
    for index in sorted(range(len(effects)), key=lambda index: (index != compared.best, -effects[index])):
        setting = evidence.settings[index]
        if index == compared.best:
            rows.append([Cell(setting.label), Cell(DASH), Cell("leads"), *[Cell(DASH)] * (len(columns) - 3)])
            continue
        difference = compared.differences[index]
        needed = [seeds_cell(compared, index), *([_items_cell(compared, index)] if with_items else [])]
        value = Cell(format_mean(evidence.metric, difference), format_interval(evidence.metric, difference))
        rows.append([Cell(setting.label), value, Cell("no" if index in compared.tied else "yes"), *needed])
    return Table(columns, merge_equal_rows(rows), 0 if compared.tied == [compared.best] else None)


def knows_spread(compared: Comparison, index: int) -> bool:
    """Whether seeds are known to move the difference of a setting from the best, and how far."""
    return compared.seed_deviations is not None and bool(compared.seed_deviations[index] > 0)


def seeds_cell(compared: Comparison, index: int) -> Cell:
    """The number of seeds needed on the same items, whose variance does not shrink with more seeds; a dash where
    nothing is known of the spread of the difference."""
    if compared.seed_deviations is None or not knows_spread(compared, index):
        return Cell(DASH)
    value, deviation = compared.differences[index].value, compared.seed_deviations[index]
    if compared.item_deviations is None:
        num_seeds = count_seeds_needed(value, deviation)
    else:
        item_variance = compared.item_deviations[index] ** 2 / compared.num_items
        num_seeds = count_seeds_needed(value, deviation, item_variance=item_variance, item_df=compared.num_items - 1)
    return Cell(DASH if num_seeds is None else f"{num_seeds:,}")


def _items_cell(compared: Comparison, index: int) -> Cell:
    assert compared.item_deviations is not None
    num_items = count_items_needed(compared.differences[index].value, compared.item_deviations[index])
    return Cell(DASH if num_items is None else f"{num_items:,}")


def describe_power(evidence: Evidence, compared: Comparison) -> list[str]:
    """Sentences on which differences this study can detect, and what its intervals stand on."""
    known = sorted(
        (one.se, one.df, compared.factors[index], compared.num_common[index])
        for index, one in ((index, compared.differences[index]) for index in compared.uncertain)
        if one.se is not None and one.df is not None
    )
    if not known:
        return []
    return [
        _describe_detectable(evidence, *known[len(known) // 2]),
        f"The intervals of differences cover {_COVERAGE[compared.differences[0].covers]}, for all pairs at once and "
        "however often one looks: in 95 of 100 studies no setting is called worse that is not.",
        *([_OF_TWO_SEEDS] if evidence.table.num_seeds == 2 else []),
        *_describe_spread(evidence),
    ]


def _describe_detectable(evidence: Evidence, se: float, df: float, factor: float, num_seeds: int) -> str:
    """Which differences are found, by the error of a typical one with `num_seeds` seeds that both settings have."""
    of_two = find_least_difference(se, df, find_t(level_with(num_seeds), df))
    of_any = max(of_two, find_least_difference(se, df, factor))
    which = "" if evidence.table.is_complete else " in common"
    with_seeds, metric = f"With {count_noun(num_seeds, 'seed')}{which}", evidence.metric
    largest, any_two = _find_largest(evidence), f"any two of {count_noun(len(evidence.settings), 'setting')}"
    if of_two > largest:
        return (
            f"{with_seeds} not even a true difference of {format_difference(metric, largest)} between two settings "
            f"named beforehand is found {100 * POWER:.0f} % of the time: seeds move them too much, or are too few."
        )
    beyond = f"and between {any_two} not even one of {format_difference(metric, largest)}"
    found = f"and of {format_difference(metric, of_any)} between {any_two}" if of_any <= largest else beyond
    return (
        f"{with_seeds} a true difference of {format_difference(metric, of_two)} between two settings named beforehand "
        f"is found {100 * POWER:.0f} % of the time, {found}; a smaller one may be there and not be seen."
    )


def _find_largest(evidence: Evidence) -> float:
    """The largest difference that can be, as of shares; of a loss one as large as the largest loss itself."""
    low, high = evidence.limits
    return float(evidence.table.means_K.max()) if evidence.table.is_log else high - low


def _describe_spread(evidence: Evidence) -> list[str]:
    """What is known of the spread over seeds, and which settings share nothing of it."""
    spreads = evidence.table.spreads
    if spreads.pooled_df == 0:
        return ["Each difference stands on its own seeds."]
    scale = ", of the logarithm" if evidence.table.is_log else ""
    freedoms = f"{spreads.pooled_df:.0f} degree{'s' * (round(spreads.pooled_df) != 1)} of freedom"
    shared = f"The settings share what is known of their spread over seeds{scale}: {freedoms}"
    apart = [one.label for one, is_apart in zip(evidence.settings, spreads.apart_K, strict=True) if is_apart]
    if not apart:
        return [f"{shared}, and wider intervals where they spread unlike."]
    listed = " and ".join(apart) if len(apart) <= _MAX_APART else f"{len(apart)} settings"
    return [
        f"{shared}. {listed} {'spreads' if len(apart) == 1 else 'spread'} more than the others (a test at "
        f"{100 * TEST_LEVEL:.1f} %), so that differences from there stand on their own seeds, and have to be large to "
        "be seen."
    ]


def describe_gain(evidence: Evidence) -> str:
    """The value that a setting has without choosing: of the other one, or of the one in the middle."""
    values = sorted(one.value for one in evidence.estimates)
    if len(values) == 2:
        index = next(index for index, one in enumerate(evidence.settings) if one is not evidence.best)
        other, num_lost = format_metric(evidence.metric, evidence.estimates[index].value), evidence.num_worst[index]
        num_runs = evidence.table.counts_K[index]
        where = f" in the {num_runs - num_lost} of its {num_runs} runs that finished" if num_lost else ""
        return f", against {other} of the other{where}"
    middle = format_metric(evidence.metric, statistics.median(values))
    return f", against a median of {middle} over the {len(values)} settings"
