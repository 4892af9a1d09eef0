"""The table of the settings: scores and costs, each with its spread over seeds."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS
from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord
from sweeplab.report.evidence.bases import find_base_score, find_base_value, label_bases
from sweeplab.report.evidence.costs import (
    STEP_SECONDS,
    TENSOR_BYTES,
    TRAIN_SECONDS,
    choose_memory_metric,
    choose_resident_metric,
    has_shared_training,
)
from sweeplab.report.evidence.estimates import estimate_settings, find_best_setting
from sweeplab.report.evidence.formatting import (
    DASH,
    count_noun,
    describe_bound,
    format_count,
    format_duration,
    format_interval,
    format_memory,
    format_number,
    format_plus_minus,
    format_share,
    format_step_duration,
    label_score,
    shorten_key,
)
from sweeplab.report.evidence.settings import (
    LOSS,
    Setting,
    collect_records,
    format_varied,
    list_broken_bounds,
    list_scores,
    list_varied_keys,
)
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.statistics.intervals import Estimate

_BITS = "base_bits_per_param"
_BESIDE_STEP: Final = {
    "median": "solo.median_step_seconds",
    "slowest": "solo.slowest_step_seconds",
    "processor": "solo.step_processor_seconds",
}
_CellOf = Callable[[Setting], Cell]


def build_settings_table(
    facts: StudyFacts,
    settings: list[Setting],
    brief: bool = False,
    bases: Sequence[BaseScore] = (),
    items: Items | None = None,
) -> Table:
    """One row per setting: mean ± standard deviation over seeds, and the mean's interval in small print.

    `brief`: objectives only, no adapter size. `bases` are rows of their own, above the settings.
    """
    records = collect_records(settings)
    keys = list_varied_keys(facts, records)
    best = find_best_setting(facts, settings)
    scores = [pair for pair in list_scores(records) if not brief or f"scores.{pair[0]}.{pair[1]}" in facts.objectives]
    columns: list[tuple[Column, _CellOf, str | None]] = [
        (Column(shorten_key(key, keys), numeric=False), partial(_varied_cell, facts, key), None) for key in keys
    ] or [(Column("setting", numeric=False), _label_cell, None)]
    columns.append((Column("finished", "of started"), _counts_cell, None))
    if facts.constraints:
        columns.append((Column("allowed", numeric=False), partial(_allowed_cell, facts), None))
    loss = estimate_settings(facts, settings, LOSS, items)
    columns.append((Column("held-out loss", "nats/target"), partial(_spread_cell, LOSS, loss), LOSS))
    columns += [
        (*_build_score_column(facts, settings, task, metric, items), f"scores.{task}.{metric}")
        for task, metric in scores
    ]
    columns.append((Column("trainable parameters"), _params_cell, None))
    if len({setting.spreads[_BITS].mean for setting in settings if _BITS in setting.spreads}) > 1:
        columns.append((Column("base", "bits/parameter"), _bits_cell, None))
    columns += [(column, make, None) for column, make in _build_cost_columns(records)]
    if not brief:
        columns.append((Column("adapter size"), partial(_memory_cell, "adapter_bytes"), None))
    metrics = [metric for _, _, metric in columns]
    rows = [_build_base_row(base, metrics, which) for base, which in label_bases(facts, records, bases)]
    num_bases = len(rows)
    rows += [[make(setting) for _, make, _ in columns] for setting in settings]
    marked = next((num_bases + index for index, setting in enumerate(settings) if setting is best), None)
    return Table([column for column, _, _ in columns], rows, marked, num_bases)


def _build_base_row(base: BaseScore, metrics: list[str | None], which: str) -> list[Cell]:
    """The base's own values; it has no seeds, so there is no spread, and a score's error is over items."""
    cells = [Cell("base model", f"without adapter{which and ', '}{which}")]
    for metric in metrics[1:]:
        value = None if metric is None else find_base_value(base, metric)
        score = None if metric is None else find_base_score(base, metric)
        cells.append(
            Cell(
                format_number(value),
                "" if score is None or score.stderr is None else f"se {format_number(score.stderr)}",
            )
        )
    return cells


def _build_cost_columns(records: list[TrialRecord]) -> list[tuple[Column, _CellOf]]:
    """Time and memory of a setting's own: of its training, or of a step alone where any trials trained together."""
    time = (Column("training time"), _time_cell)
    if has_shared_training(records):
        time = (Column("a step alone", "longest batch"), _step_cell)
    resident = choose_resident_metric(records)
    beside = [] if resident is None else [_build_memory_column(resident, records)]
    return [time, _build_memory_column(choose_memory_metric(records), records), *beside]


def _build_memory_column(name: str | None, records: list[TrialRecord]) -> tuple[Column, _CellOf]:
    shared = has_shared_training(records)
    kind = f"peak memory{' alone' if shared else ''}" if name is None else METRICS[name].label
    if not shared and name != TENSOR_BYTES:
        return Column(kind.removesuffix(", training"), "in training"), partial(_memory_cell, name)
    return Column(kind), partial(_memory_cell, name)


def _label_cell(setting: Setting) -> Cell:
    return Cell(setting.label)


def _counts_cell(setting: Setting) -> Cell:
    return Cell(setting.counts, setting.skipped.removeprefix(", "))


def _allowed_cell(facts: StudyFacts, setting: Setting) -> Cell:
    broken = list_broken_bounds(facts, setting)
    return Cell("no", f"not {', '.join(map(describe_bound, broken))}") if broken else Cell("yes")


def _varied_cell(facts: StudyFacts, key: str, setting: Setting) -> Cell:
    return build_param_cell(facts, key, setting.params)


def build_param_cell(facts: StudyFacts, key: str, params: dict[str, Any]) -> Cell:
    return Cell(format_varied(facts, key, params[key]) if key in params else DASH)


def _build_score_column(
    facts: StudyFacts, settings: list[Setting], task: str, metric: str, items: Items | None
) -> tuple[Column, _CellOf]:
    """The items are counted in the column's head where all settings have as many, else in each cell."""
    name = f"scores.{task}.{metric}"
    estimates = estimate_settings(facts, settings, name, items)
    sizes = {setting.spreads[name].num_items for setting in settings if name in setting.spreads}
    size = sizes.pop() if len(sizes) == 1 else None
    if size is None:
        return Column(label_score(task, metric)), partial(_spread_cell, name, estimates, num_items=True)
    return Column(label_score(task, metric), count_noun(size, "item")), partial(_spread_cell, name, estimates)


def _spread_cell(name: str, estimates: dict[int, Estimate], setting: Setting, num_items: bool = False) -> Cell:
    """Mean ± standard deviation; small print: the mean's interval, a score's standard error, its items if asked."""
    spread = setting.spreads.get(name)
    if spread is None:
        return Cell(DASH)
    estimate = estimates.get(setting.records[0].number)
    notes = [] if estimate is None or estimate.low is None else [format_interval(name, estimate)]
    if estimate is not None and estimate.is_wide:
        notes.append("own spread")
    if spread.stderr is not None:
        notes.append(f"se {format_number(spread.stderr)}")
    if num_items and spread.num_items is not None:
        notes.append(count_noun(spread.num_items, "item"))
    return Cell(format_plus_minus(spread.mean, spread.std), ", ".join(notes))


def _params_cell(setting: Setting) -> Cell:
    spread = setting.spreads.get("num_trainable_params")
    totals = [record.num_total_params for record in setting.finished if record.num_total_params]
    if spread is None:
        return Cell(DASH)
    return Cell(format_count(spread.mean), f"{format_share(spread.mean, totals[0])} of base" if totals else "")


def _bits_cell(setting: Setting) -> Cell:
    spread = setting.spreads.get(_BITS)
    return Cell(DASH if spread is None else f"{spread.mean:.3f}")


def _time_cell(setting: Setting) -> Cell:
    spread = setting.spreads.get(TRAIN_SECONDS)
    if spread is None:
        return Cell(DASH)
    return Cell(
        format_duration(spread.mean), "" if spread.std is None else f"± {format_duration(spread.std)}", spread.mean
    )


def _step_cell(setting: Setting) -> Cell:
    """A method that has the base for itself is not probed on a GPU: its training's own time is in the small print."""
    spread, training = setting.spreads.get(STEP_SECONDS), setting.spreads.get(TRAIN_SECONDS)
    if spread is not None:
        notes = [] if spread.std is None else [f"± {format_step_duration(spread.std)}"]
        notes += [
            f"{word} {format_step_duration(setting.spreads[name].mean)}"
            for word, name in _BESIDE_STEP.items()
            if name in setting.spreads
        ]
        return Cell(format_step_duration(spread.mean), ", ".join(notes), spread.mean)
    return Cell(DASH, "" if training is None else f"all training {format_duration(training.mean)}")


def _memory_cell(name: str | None, setting: Setting) -> Cell:
    spread = None if name is None else setting.spreads.get(name)
    if spread is None:
        return Cell(DASH)
    return Cell(format_memory(spread.mean), f"± {format_memory(spread.std)}" if spread.std else "", spread.mean)
