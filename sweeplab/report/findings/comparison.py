"""Compares the settings with the best one: differences with intervals, and how many seeds or items are needed."""

from typing import Final

from scipy import stats

from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import DASH, count_noun, format_difference, format_interval, label_metric
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.statistics.contrasts import Comparison
from sweeplab.statistics.intervals import LEVEL
from sweeplab.statistics.power import POWER, count_items_needed, count_seeds_needed, find_least_difference
from sweeplab.statistics.spreads import TEST_LEVEL, is_pooled

_COVERAGE: Final = {
    "seeds": "another seed on the same items",
    "items": "other items, but not another seed",
    "seeds and items": "another seed and other items",
    "nothing": "nothing",
}
NO_SPREAD: Final = (
    "Every difference between settings is the same with all seeds: a spread of exactly zero, from which nothing can be "
    "said of how far chance goes."
)
_MAX_WIDE: Final = 4  # settings in a sentence


def build_comparison_table(evidence: Evidence, compared: Comparison) -> Table:
    """For every setting: the difference from the best, whether it is significant, and the seeds or items needed."""
    with_items = compared.seed_deviations is None and compared.item_deviations is not None
    columns = [
        Column("setting", numeric=False),
        Column(f"{label_metric(evidence.metric)}, minus the best's", "95 % for all at once"),
        Column("told from the best", numeric=False),
        Column("seeds needed", "for a difference as seen"),
        *([Column("items needed", "with this seed")] if with_items else []),
    ]
    rows = []
    for index, setting in enumerate(evidence.settings):
        if index == compared.best:
            rows.append([Cell(setting.label), Cell(DASH), Cell("the best"), *[Cell(DASH)] * (len(columns) - 3)])
            continue
        difference = compared.differences[index]
        needed = [seeds_cell(compared, index), *([_items_cell(compared, index)] if with_items else [])]
        value = Cell(format_difference(evidence.metric, difference.value), format_interval(evidence.metric, difference))
        rows.append([Cell(setting.label), value, Cell("no" if index in compared.tied else "yes"), *needed])
    return Table(columns, rows, compared.best)


def seeds_cell(compared: Comparison, index: int) -> Cell:
    """The number of seeds needed on the same items, whose variance does not shrink with more seeds."""
    if compared.seed_deviations is None:
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
    """Sentences on which differences this study can detect, and which variance its intervals use."""
    num_seeds = evidence.table.num_seeds
    known = {
        index: (one.se, one.df, compared.factors[index])
        for index, one in ((index, compared.differences[index]) for index in compared.uncertain)
        if one.se is not None and one.df is not None
    }
    if not known:
        return []
    alike = sorted(one for index, one in known.items() if index not in compared.wide) or sorted(known.values())
    se, df, factor = alike[len(alike) // 2]
    which = count_noun(len(evidence.settings), "setting")
    if compared.wide:
        which = f"the {len(evidence.settings) - len(compared.wide)} settings that spread alike"
    critical = float(stats.t.ppf((1 + LEVEL) / 2, df))
    of_two = format_difference(evidence.metric, find_least_difference(se, df, critical))
    of_any = format_difference(evidence.metric, find_least_difference(se, df, factor))
    share = f"{100 * POWER:.0f} %"
    sentences = [
        f"With {count_noun(num_seeds, 'seed')} a true difference of {of_two} between two settings named beforehand is "
        f"found {share} of the time, and of {of_any} between any two of {which}; a smaller one may be there and not be "
        "seen.",
        f"The intervals of differences cover {_COVERAGE[compared.differences[0].covers]}.",
    ]
    if num_seeds > 1 and is_pooled(num_seeds, len(evidence.settings)):
        sentences.append(_describe_spread(evidence, compared))
    return sentences


def _describe_spread(evidence: Evidence, compared: Comparison) -> str:
    """A sentence on the variance that the intervals of differences use, where there are few seeds."""
    num_seeds, num_alike = evidence.table.num_seeds, compared.num_alike
    test = f"a test at {100 * TEST_LEVEL:.0f} %"
    freedoms = f"{count_noun(max(num_alike - 1, 1) * (num_seeds - 1), 'degree')} of freedom"
    few = f"{count_noun(num_seeds, 'seed')} of one setting say little about its spread"
    num_flat = len(evidence.settings) - num_alike - len(compared.wide)
    if len(evidence.settings) == 2 or num_alike < 2:
        return f"{few}, and {'the' if len(evidence.settings) == 2 else 'each'} difference stands on {freedoms}."
    flat = f", without {count_noun(num_flat, 'setting')} of no spread at all" if num_flat else ""
    if not compared.wide:
        who = f"{num_alike} settings" if num_flat else "the settings"
        return (
            f"{few}, so {who} share one variance ({freedoms}{flat}); {test} finds none that spreads more than the "
            "others, and one that does so unseen has too short an interval."
        )
    names = [evidence.settings[index].label for index in compared.wide]
    listed = " and ".join(names) if len(names) <= _MAX_WIDE else f"{len(names)} settings"
    verb, own = ("spreads", "its own seeds") if len(names) == 1 else ("spread", "their own seeds each")
    return (
        f"{few}, so {num_alike} settings share one variance ({freedoms}{flat}); {listed} {verb} more than these seed "
        f"by seed ({test}), so that differences from there stand on {own}, and have to be large to be seen."
    )
