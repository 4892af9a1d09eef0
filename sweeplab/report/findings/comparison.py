"""The settings against the best one: differences with intervals, and how much more would tell them apart."""

from typing import Final

from scipy import stats

from sweeplab.report.evidence.estimates import Evidence
from sweeplab.report.evidence.formatting import DASH, interval_text, metric_label, plural, signed_text
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.statistics.contrasts import Comparison
from sweeplab.statistics.intervals import LEVEL
from sweeplab.statistics.power import POWER, items_needed, least_difference, seeds_needed
from sweeplab.statistics.spreads import TEST_LEVEL, pooled

COVERAGE: Final = {
    "seeds": "another seed on the same items",
    "items": "other items, but not another seed",
    "seeds and items": "another seed and other items",
    "nothing": "nothing",
}
NO_SPREAD: Final = (
    "Every difference between settings is the same with all seeds: a spread of exactly zero, from which nothing can be "
    "said of how far chance goes."
)
MAX_WIDE: Final = 4  # settings in a sentence


def comparison_table(found: Evidence, compared: Comparison) -> Table:
    """Every setting's difference from the best, whether it is told from it, and what it would take."""
    with_items = compared.seed_deviations is None and compared.item_deviations is not None
    columns = [
        Column("setting", numeric=False),
        Column(f"{metric_label(found.metric)}, minus the best's", "95 % for all at once"),
        Column("told from the best", numeric=False),
        Column("seeds needed", "for a difference as seen"),
        *([Column("items needed", "with this seed")] if with_items else []),
    ]
    rows = []
    for place, setting in enumerate(found.settings):
        if place == compared.best:
            rows.append([Cell(setting.label), Cell(DASH), Cell("the best"), *[Cell(DASH)] * (len(columns) - 3)])
            continue
        difference = compared.differences[place]
        needed = [seeds_cell(compared, place), *([items_cell(compared, place)] if with_items else [])]
        value = Cell(signed_text(found.metric, difference.value), interval_text(found.metric, difference))
        rows.append([Cell(setting.label), value, Cell("no" if place in compared.tied else "yes"), *needed])
    return Table(columns, rows, compared.best)


def seeds_cell(compared: Comparison, place: int) -> Cell:
    """Seeds on the same items, whose own variance stays however many seeds there are."""
    if compared.seed_deviations is None:
        return Cell(DASH)
    value, deviation = compared.differences[place].value, compared.seed_deviations[place]
    if compared.item_deviations is None:
        num_seeds = seeds_needed(value, deviation)
    else:
        item_variance = compared.item_deviations[place] ** 2 / compared.num_items
        num_seeds = seeds_needed(value, deviation, item_variance=item_variance, item_df=compared.num_items - 1)
    return Cell(DASH if num_seeds is None else f"{num_seeds:,}")


def items_cell(compared: Comparison, place: int) -> Cell:
    assert compared.item_deviations is not None
    num_items = items_needed(compared.differences[place].value, compared.item_deviations[place])
    return Cell(DASH if num_items is None else f"{num_items:,}")


def power_note(found: Evidence, compared: Comparison) -> list[str]:
    """What differences this study could see, and what its intervals stand on."""
    num_seeds = found.table.num_seeds
    known = {
        place: (one.se, one.df, compared.factors[place])
        for place, one in ((place, compared.differences[place]) for place in compared.uncertain)
        if one.se is not None and one.df is not None
    }
    if not known:
        return []
    alike = sorted(one for place, one in known.items() if place not in compared.wide) or sorted(known.values())
    se, df, factor = alike[len(alike) // 2]
    which = plural(len(found.settings), "setting")
    if compared.wide:
        which = f"the {len(found.settings) - len(compared.wide)} settings that spread alike"
    alone = least_difference(se, df, float(stats.t.ppf((1 + LEVEL) / 2, df)))
    together = least_difference(se, df, factor)
    share = f"{100 * POWER:.0f} %"
    said = [
        f"With {plural(num_seeds, 'seed')} a true difference of {signed_text(found.metric, alone)} between two "
        f"settings named beforehand is found {share} of the time, and of {signed_text(found.metric, together)} between "
        f"any two of {which}; a smaller one may be there and not be seen.",
        f"The intervals of differences cover {COVERAGE[compared.differences[0].covers]}.",
    ]
    if num_seeds > 1 and pooled(num_seeds, len(found.settings)):
        said.append(spread_note(found, compared))
    return said


def spread_note(found: Evidence, compared: Comparison) -> str:
    """Whose variance the intervals of differences stand on, where there are few seeds."""
    num_seeds, num_alike = found.table.num_seeds, compared.num_alike
    test = f"a test at {100 * TEST_LEVEL:.0f} %"
    freedoms = f"{plural(max(num_alike - 1, 1) * (num_seeds - 1), 'degree')} of freedom"
    few = f"{plural(num_seeds, 'seed')} of one setting say little about its spread"
    num_flat = len(found.settings) - num_alike - len(compared.wide)
    if len(found.settings) == 2 or num_alike < 2:
        return f"{few}, and {'the' if len(found.settings) == 2 else 'each'} difference stands on {freedoms}."
    flat = f", without {plural(num_flat, 'setting')} of no spread at all" if num_flat else ""
    if not compared.wide:
        who = f"{num_alike} settings" if num_flat else "the settings"
        return (
            f"{few}, so {who} share one variance ({freedoms}{flat}); {test} finds none that spreads more than the "
            "others, and one that does so unseen has too short an interval."
        )
    names = [found.settings[place].label for place in compared.wide]
    listed = " and ".join(names) if len(names) <= MAX_WIDE else f"{len(names)} settings"
    verb, own = ("spreads", "its own seeds") if len(names) == 1 else ("spread", "their own seeds each")
    return (
        f"{few}, so {num_alike} settings share one variance ({freedoms}{flat}); {listed} {verb} more than these seed "
        f"by seed ({test}), so that differences from there stand on {own}, and have to be large to be seen."
    )
