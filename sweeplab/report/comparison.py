"""The settings against the best one: differences with intervals, and how much more would tell them apart."""

from typing import Final

from scipy import stats

from sweeplab.report.evidence import Evidence
from sweeplab.report.tables import Cell, Column, Table
from sweeplab.report.wording import DASH, interval_text, metric_label, plural, signed_text
from sweeplab.statistics.contrasts import Comparison
from sweeplab.statistics.intervals import LEVEL, pooled
from sweeplab.statistics.power import POWER, items_needed, least_difference, seeds_needed

COVERAGE: Final = {
    "seeds": "another seed on the same items",
    "items": "other items, but not another seed",
    "seeds and items": "another seed and other items",
    "nothing": "nothing",
}


def comparison_table(found: Evidence, compared: Comparison) -> Table:
    """Every setting's difference from the best, whether it is told from it, and what it would take."""
    columns = [
        Column("setting", numeric=False),
        Column(f"{metric_label(found.metric)}, minus the best's", "95 % for all at once"),
        Column("told from the best", numeric=False),
        Column("seeds needed", "for a difference as seen"),
        *([Column("items needed", "with this seed")] if compared.item_deviations is not None else []),
    ]
    rows = []
    for place, setting in enumerate(found.settings):
        if place == compared.best:
            rows.append([Cell(setting.label), Cell(DASH), Cell("the best"), *[Cell(DASH)] * (len(columns) - 3)])
            continue
        difference = compared.differences[place]
        needed = [seeds_cell(compared, place)]
        if compared.item_deviations is not None:
            items = items_needed(difference.value, compared.item_deviations[place])
            needed.append(Cell(DASH if items is None else f"{items:,}"))
        value = Cell(signed_text(found.metric, difference.value), interval_text(found.metric, difference))
        rows.append([Cell(setting.label), value, Cell("no" if place in compared.tied else "yes"), *needed])
    return Table(columns, rows, compared.best)


def seeds_cell(compared: Comparison, place: int) -> Cell:
    if compared.seed_deviations is None:
        return Cell(DASH)
    num_seeds = seeds_needed(compared.differences[place].value, compared.seed_deviations[place])
    return Cell(DASH if num_seeds is None else str(num_seeds))


def power_note(found: Evidence, compared: Comparison) -> list[str]:
    """What differences this study could see, and what its intervals stand on."""
    others = [one for place, one in enumerate(compared.differences) if place != compared.best]
    first = others[0]
    errors = sorted(one.se for one in others if one.se is not None)
    if first.df is None or not errors or errors[-1] == 0:
        return []
    middle, num_seeds = errors[len(errors) // 2], found.table.num_seeds
    alone = least_difference(middle, first.df, float(stats.t.ppf((1 + LEVEL) / 2, first.df)))
    together = least_difference(middle, first.df, compared.factor)
    share = f"{100 * POWER:.0f} %"
    said = [
        f"With {plural(num_seeds, 'seed')} a true difference of {signed_text(found.metric, alone)} between two "
        f"settings named beforehand is found {share} of the time, and of {signed_text(found.metric, together)} between "
        f"any two of {plural(len(found.settings), 'setting')}; a smaller one may be there and not be seen.",
        f"The intervals of differences cover {COVERAGE[first.covers]}.",
    ]
    if num_seeds > 1 and pooled(num_seeds, len(found.settings)):
        said.append(
            f"{plural(num_seeds, 'seed')} of one setting say little about its spread, so the settings share one "
            f"variance ({first.df:g} degrees of freedom); a setting that spreads more than the others has too short "
            "an interval."
        )
    return said
