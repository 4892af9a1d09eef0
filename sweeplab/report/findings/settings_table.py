"""The table of the settings: scores and costs, each with its spread over seeds."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sweeplab.records.metrics import METRICS
from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord
from sweeplab.report.evidence.bases import base_score, base_value, named_bases
from sweeplab.report.evidence.costs import STEP_SECONDS, TRAIN_SECONDS, any_shared, memory_metric
from sweeplab.report.evidence.estimates import best_setting, setting_estimates
from sweeplab.report.evidence.formatting import (
    DASH,
    count,
    duration,
    interval_text,
    memory,
    number,
    plural,
    plus_minus,
    score_label,
    share,
    short_key,
    step_duration,
)
from sweeplab.report.evidence.settings import LOSS, Setting, all_records, score_names, shown, varied_keys
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.statistics.intervals import Estimate

BITS = "base_bits_per_param"
CellOf = Callable[[Setting], Cell]


def settings_table(
    facts: StudyFacts, settings: list[Setting], brief: bool = False, bases: Sequence[BaseScore] = ()
) -> Table:
    """One row per setting: mean ± standard deviation over seeds, and the mean's interval in small print.

    `brief`: objectives only, no adapter size. `bases` are rows of their own, above the settings.
    """
    records = all_records(settings)
    keys = varied_keys(facts, records)
    best = best_setting(facts, settings)
    scores = [pair for pair in score_names(records) if not brief or f"scores.{pair[0]}.{pair[1]}" in facts.objectives]
    columns: list[tuple[Column, CellOf, str | None]] = [
        (Column(short_key(key, keys), numeric=False), partial(varied_cell, facts, key), None) for key in keys
    ] or [(Column("setting", numeric=False), label_cell, None)]
    columns.append((Column("finished", "of started"), counts_cell, None))
    loss = setting_estimates(facts, settings, LOSS)
    columns.append((Column("held-out loss", "nats/target"), partial(spread_cell, LOSS, loss), LOSS))
    columns += [(*score_column(facts, settings, task, metric), f"scores.{task}.{metric}") for task, metric in scores]
    columns.append((Column("trainable parameters"), params_cell, None))
    if len({setting.spreads[BITS].mean for setting in settings if BITS in setting.spreads}) > 1:
        columns.append((Column("base", "bits/parameter"), bits_cell, None))
    columns += [(column, make, None) for column, make in cost_columns(records)]
    if not brief:
        columns.append((Column("adapter size"), partial(memory_cell, "adapter_bytes"), None))
    metrics = [metric for _, _, metric in columns]
    rows = [base_row(base, metrics, which) for base, which in named_bases(facts, records, bases)]
    num_bases = len(rows)
    rows += [[make(setting) for _, make, _ in columns] for setting in settings]
    marked = next((num_bases + index for index, setting in enumerate(settings) if setting is best), None)
    return Table([column for column, _, _ in columns], rows, marked, num_bases)


def base_row(base: BaseScore, metrics: list[str | None], which: str) -> list[Cell]:
    """The base's own values; it has no seeds, so there is no spread, and a score's error is over items."""
    cells = [Cell("base model", f"without adapter{which and ', '}{which}")]
    for metric in metrics[1:]:
        value = None if metric is None else base_value(base, metric)
        score = None if metric is None else base_score(base, metric)
        cells.append(Cell(number(value), "" if score is None or score.stderr is None else f"se {number(score.stderr)}"))
    return cells


def cost_columns(records: list[TrialRecord]) -> list[tuple[Column, CellOf]]:
    """Time and memory of a setting's own: of its training, or of a step alone where any trials trained together."""
    name = memory_metric(records)
    if any_shared(records):
        kind = "peak memory alone" if name is None else METRICS[name].label
        return [
            (Column("a step alone", "longest batch"), step_cell),
            (Column(kind), partial(memory_cell, name)),
        ]
    kind = "peak memory" if name is None else METRICS[name].label.removesuffix(", training")
    return [(Column("training time"), time_cell), (Column(kind, "in training"), partial(memory_cell, name))]


def label_cell(setting: Setting) -> Cell:
    return Cell(setting.label)


def counts_cell(setting: Setting) -> Cell:
    return Cell(setting.counts, setting.skipped.removeprefix(", "))


def varied_cell(facts: StudyFacts, key: str, setting: Setting) -> Cell:
    return param_cell(facts, key, setting.params)


def param_cell(facts: StudyFacts, key: str, params: dict[str, Any]) -> Cell:
    return Cell(shown(facts, key, params[key]) if key in params else DASH)


def score_column(facts: StudyFacts, settings: list[Setting], task: str, metric: str) -> tuple[Column, CellOf]:
    """The items are counted in the column's head where all settings have as many, else in each cell."""
    name = f"scores.{task}.{metric}"
    found = setting_estimates(facts, settings, name)
    sizes = {setting.spreads[name].num_items for setting in settings if name in setting.spreads}
    size = sizes.pop() if len(sizes) == 1 else None
    if size is None:
        return Column(score_label(task, metric)), partial(spread_cell, name, found, num_items=True)
    return Column(score_label(task, metric), plural(size, "item")), partial(spread_cell, name, found)


def spread_cell(name: str, found: dict[int, Estimate], setting: Setting, num_items: bool = False) -> Cell:
    """Mean ± standard deviation; small print: the mean's interval, a score's standard error, its items if asked."""
    spread = setting.spreads.get(name)
    if spread is None:
        return Cell(DASH)
    estimate = found.get(setting.records[0].number)
    notes = [] if estimate is None or estimate.low is None else [interval_text(name, estimate)]
    if estimate is not None and estimate.is_wide:
        notes.append("own spread")
    if spread.stderr is not None:
        notes.append(f"se {number(spread.stderr)}")
    if num_items and spread.num_items is not None:
        notes.append(plural(spread.num_items, "item"))
    return Cell(plus_minus(spread.mean, spread.std), ", ".join(notes))


def params_cell(setting: Setting) -> Cell:
    spread = setting.spreads.get("num_trainable_params")
    totals = [record.num_total_params for record in setting.finished if record.num_total_params]
    if spread is None:
        return Cell(DASH)
    return Cell(count(spread.mean), f"{share(spread.mean, totals[0])} of base" if totals else "")


def bits_cell(setting: Setting) -> Cell:
    spread = setting.spreads.get(BITS)
    return Cell(DASH if spread is None else f"{spread.mean:.3f}")


def time_cell(setting: Setting) -> Cell:
    spread = setting.spreads.get(TRAIN_SECONDS)
    if spread is None:
        return Cell(DASH)
    return Cell(duration(spread.mean), "" if spread.std is None else f"± {duration(spread.std)}", spread.mean)


def step_cell(setting: Setting) -> Cell:
    """A method that has the base for itself is not probed: its training's own time is in the small print."""
    spread, training = setting.spreads.get(STEP_SECONDS), setting.spreads.get(TRAIN_SECONDS)
    if spread is not None:
        note = "" if spread.std is None else f"± {step_duration(spread.std)}"
        return Cell(step_duration(spread.mean), note, spread.mean)
    return Cell(DASH, "" if training is None else f"all training {duration(training.mean)}")


def memory_cell(name: str | None, setting: Setting) -> Cell:
    spread = None if name is None else setting.spreads.get(name)
    if spread is None:
        return Cell(DASH)
    return Cell(memory(spread.mean), f"± {memory(spread.std)}" if spread.std else "", spread.mean)
