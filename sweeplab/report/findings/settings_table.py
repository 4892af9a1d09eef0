"""The table of the settings: scores and costs, each with its spread over seeds."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS
from sweeplab.records.record import BaseScore, StudyFacts, TrialRecord
from sweeplab.report.evidence.bases import find_base_score, find_base_value, label_bases
from sweeplab.report.evidence.costs import (
    STEP_SECONDS,
    TENSOR_BYTES,
    TRAIN_SECONDS,
    WHOLE_TRAINING,
    choose_memory_metric,
    choose_resident_metric,
    has_shared_training,
    stand_in_mean,
)
from sweeplab.report.evidence.estimates import estimate_settings
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
)
from sweeplab.report.evidence.settings import (
    LOSS,
    Setting,
    collect_records,
    list_broken_bounds,
    list_scores,
    list_varied_keys,
    pick_headline_scores,
)
from sweeplab.report.findings.leader import find_standing, rank_settings
from sweeplab.report.findings.names import build_name_columns
from sweeplab.report.findings.race import summarize_race
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.statistics.intervals import Estimate

_BITS = "base_bits_per_param"
_BESIDE_STEP: Final = {
    "median": "solo.median_step_seconds",
    "slowest": "solo.slowest_step_seconds",
    "processor": "solo.step_processor_seconds",
}
_CellOf = Callable[[Setting], Cell]


class _Entry(NamedTuple):
    """A column, its cell of a setting, and the metric that a base model may have, too."""

    column: Column
    make: _CellOf
    metric: str | None = None

    def folded(self) -> "_Entry":
        return self._replace(column=self.column._replace(is_minor=True))


def build_settings_table(
    facts: StudyFacts,
    settings: list[Setting],
    brief: bool = False,
    bases: Sequence[BaseScore] = (),
    items: Items | None = None,
) -> Table:
    """One row per setting, the best first: mean ± standard deviation over seeds, the mean's interval in small print.

    The objective is the first number. `brief`: objectives only, no adapter size. `bases` are rows of their own, above
    the settings.
    """
    records = collect_records(settings)
    standing = find_standing(facts, settings, items, summarize_race(facts, settings))
    entries = _list_name_entries(facts, records)
    entries += _list_quality_entries(facts, settings, brief, items)
    entries += _list_cost_entries(settings, brief)
    rows = [_build_base_row(base, entries, which) for base, which in label_bases(facts, records, bases)]
    num_bases = len(rows)
    ranked = rank_settings(facts, settings, items)
    rows += [[one.make(setting) for one in entries] for setting in ranked]
    marked, tied = None, list[int]()
    if standing is not None and standing.is_alone:
        marked = num_bases + ranked.index(standing.leader)
    elif standing is not None and standing.is_recommended:
        tied = [num_bases + ranked.index(one) for one in (standing.leader, *standing.tied)]
    return Table([one.column for one in entries], rows, marked, num_bases, tuple(tied))


def _list_name_entries(facts: StudyFacts, records: list[TrialRecord]) -> list[_Entry]:
    keys = list_varied_keys(facts, records)
    named = build_name_columns(facts, keys)
    if not named:
        return [_Entry(Column("setting", numeric=False), _label_cell)]
    return [_Entry(column, partial(_varied_cell, make)) for column, make in named]


def _list_quality_entries(facts: StudyFacts, settings: list[Setting], brief: bool, items: Items | None) -> list[_Entry]:
    """The objectives first, the others in the order of the records; scores beside a task's main one are folded."""
    records = collect_records(settings)
    headline = [f"scores.{task}.{metric}" for task, metric in pick_headline_scores(records, facts.objectives)]
    scores = {f"scores.{task}.{metric}": (task, metric) for task, metric in list_scores(records)}
    quality = [name for name in facts.objectives if name in scores or name == LOSS]
    if not brief:
        quality += [*headline, *scores]
    entries = []
    for name in dict.fromkeys([*quality, LOSS]):
        if name == LOSS:
            loss = estimate_settings(facts, settings, LOSS, items)
            entry = _Entry(Column("held-out loss", "nats/target"), partial(_spread_cell, LOSS, loss), LOSS)
        else:
            entry = _Entry(*_build_score_column(facts, settings, *scores[name], items), name)
        entries.append(entry if name in (*facts.objectives, *headline, LOSS) else entry.folded())
    counts = _Entry(Column("finished", "of started"), _counts_cell)
    is_whole = len({one.counts for one in settings}) == 1 and all(one.finished == one.records for one in settings)
    beside = [counts.folded() if is_whole else counts]
    if facts.constraints:
        beside.insert(0, _Entry(Column("allowed", numeric=False), partial(_allowed_cell, facts)))
    return [*entries[:1], *beside, *entries[1:]]


def _list_cost_entries(settings: list[Setting], brief: bool) -> list[_Entry]:
    records = collect_records(settings)
    entries = [_Entry(column, make) for column, make in _build_cost_columns(records)]
    time, memory, *beside = entries
    params = _Entry(Column("trainable parameters"), _params_cell)
    bits = _Entry(Column("base", "bits/parameter"), _bits_cell)
    varies = len({setting.spreads[_BITS].mean for setting in settings if _BITS in setting.spreads}) > 1
    size = _Entry(Column("adapter size"), partial(_memory_cell, "adapter_bytes")).folded()
    folded = [one.folded() for one in beside] + ([] if brief else [size])
    return [memory, time, params, *([bits] if varies else []), *folded]


def _build_base_row(base: BaseScore, entries: list[_Entry], which: str) -> list[Cell]:
    """The base's own values; it has no seeds, so there is no spread, and a score's error is over items."""
    cells = [Cell("base model", f"without adapter{which and ', '}{which}")]
    for metric in (one.metric for one in entries[1:]):
        value = None if metric is None else find_base_value(base, metric)
        score = None if metric is None else find_base_score(base, metric)
        cells.append(
            Cell(
                format_number(value),
                aside="" if score is None or score.stderr is None else f"se {format_number(score.stderr)}",
            )
        )
    return cells


def _build_cost_columns(records: list[TrialRecord]) -> list[tuple[Column, _CellOf]]:
    """Time and memory of a setting's own: of its training, or of a step alone where any trials trained together."""
    time = (Column("training time"), _time_cell)
    if has_shared_training(records):
        time = (Column(METRICS[STEP_SECONDS].label, "longest batch"), _step_cell)
    resident = choose_resident_metric(records)
    beside = [] if resident is None else [_build_memory_column(resident, records)]
    return [time, _build_memory_column(choose_memory_metric(records), records), *beside]


def _build_memory_column(name: str | None, records: list[TrialRecord]) -> tuple[Column, _CellOf]:
    shared = has_shared_training(records)
    kind = "peak memory" if name is None else METRICS[name].label
    if not shared and name != TENSOR_BYTES:
        return Column(kind.removesuffix(", training"), "in training"), partial(_memory_cell, name)
    return Column(kind), partial(_memory_cell, name)


def _label_cell(setting: Setting) -> Cell:
    return Cell(setting.label)


def _counts_cell(setting: Setting) -> Cell:
    return Cell(setting.counts, setting.left_out.removeprefix(", "))


def _allowed_cell(facts: StudyFacts, setting: Setting) -> Cell:
    broken = list_broken_bounds(facts, setting)
    return Cell("no", f"not {', '.join(map(describe_bound, broken))}") if broken else Cell("yes")


def _varied_cell(make: Callable[[dict[str, Any]], Cell], setting: Setting) -> Cell:
    return make(setting.params)


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
    if estimate is not None and estimate.is_apart:
        notes.append("own spread")
    asides = [] if spread.stderr is None else [f"se {format_number(spread.stderr)}"]
    if num_items and spread.num_items is not None:
        asides.append(count_noun(spread.num_items, "item"))
    mean = spread.mean if estimate is None else estimate.value  # without the seeds that the answer leaves out, too
    return Cell(format_plus_minus(mean, spread.std), ", ".join(notes), aside=", ".join(asides))


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
    """A method that has the base for itself is not probed: its training's own time, by its steps, stands for that."""
    spread = setting.spreads.get(STEP_SECONDS)
    if spread is None:
        seconds = stand_in_mean(setting, STEP_SECONDS)
        return Cell(DASH) if seconds is None else Cell(format_step_duration(seconds), WHOLE_TRAINING, seconds)
    beside = [
        f"{word} {format_step_duration(setting.spreads[name].mean)}"
        for word, name in _BESIDE_STEP.items()
        if name in setting.spreads
    ]
    note = "" if spread.std is None else f"± {format_step_duration(spread.std)}"
    return Cell(format_step_duration(spread.mean), note, spread.mean, ", ".join(beside))


def _memory_cell(name: str | None, setting: Setting) -> Cell:
    spread = None if name is None else setting.spreads.get(name)
    if spread is None:
        size = None if name is None else stand_in_mean(setting, name)
        return Cell(DASH) if size is None else Cell(format_memory(size), WHOLE_TRAINING, size)
    return Cell(format_memory(spread.mean), f"± {format_memory(spread.std)}" if spread.std else "", spread.mean)
