"""The settings by the first objective, for a terminal: what was varied, the mean with its interval, a few costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sweeplab.records.items import Items
from sweeplab.records.record import BaseScore, StudyFacts
from sweeplab.records.stored import is_number
from sweeplab.report.evidence.bases import find_base_value, label_bases
from sweeplab.report.evidence.costs import STEP_SECONDS, TRAIN_SECONDS, choose_memory_metric, has_shared_training
from sweeplab.report.evidence.estimates import Evidence, find_best_setting, gather_comparable_evidence
from sweeplab.report.evidence.formatting import (
    count_noun,
    format_interval,
    format_metric,
    format_number,
    label_metric,
    unit_of_metric,
)
from sweeplab.report.evidence.settings import (
    LOSS,
    Setting,
    collect_records,
    first_objective,
    list_varied_keys,
)
from sweeplab.report.findings.names import build_name_columns
from sweeplab.statistics.intervals import Estimate

_OWN_UNITS: Final = ("bytes", "s")  # whose numbers change their unit with their size


class Position(NamedTuple):
    """Where a mean lies, with the ends of its interval where both are known."""

    value: float
    low: float | None = None
    high: float | None = None


class RankedRow(NamedTuple):
    """A setting, or a base: one text for each column, and where its mean lies."""

    varied: list[str]
    mean: str
    interval: str
    costs: list[str]
    position: Position | None
    is_best: bool = False
    is_base: bool = False


@dataclass(frozen=True)
class Ranking:
    """The settings by the first objective, best first; along an axis where there is one of numbers only.

    Bases stand first. `costs` are in the order in which a narrow terminal leaves them out last.
    """

    title: str
    varied: list[str]
    costs: list[str]
    rows: list[RankedRow]
    num_left_out: int  # settings beyond the best ones
    is_comparable: bool  # all means are of the same thing


def rank_settings(
    facts: StudyFacts,
    settings: list[Setting],
    items: Items | None,
    bases: Sequence[BaseScore],
    most: int,
) -> Ranking:
    """The best `most` settings of a study."""
    records, (metric, _) = collect_records(settings), first_objective(facts)
    groups = gather_comparable_evidence(facts, settings, metric, items)
    estimates = {id(one): evidence.estimate(one) for evidence in groups.values() for one in evidence.settings}
    ordered = _put_best_first(settings, groups)
    best, costs = find_best_setting(facts, settings), _list_costs(facts, settings)
    keys = list_varied_keys(facts, records)
    named = build_name_columns(facts, keys)
    heads = [column.title for column, _ in named] or ["setting"]
    shown = ordered[:most]
    if len(keys) == 1 and all(is_number(one.params.get(keys[0])) for one in settings):
        shown.sort(key=lambda one: float(one.params[keys[0]]))
    rows = [
        _base_row(base, which, metric, len(heads), len(costs)) for base, which in label_bases(facts, records, bases)
    ]
    for one in shown:
        varied = [make_cell(one.params).text for _, make_cell in named] or [one.label]
        rows.append(_row(one, varied, metric, estimates.get(id(one)), costs, one is best))
    return Ranking(
        _title(facts, metric, [one for one in estimates.values() if one is not None]),
        heads,
        [title for title, _ in costs],
        rows,
        len(ordered) - len(shown),
        len(groups) < 2,
    )


def _put_best_first(settings: list[Setting], groups: dict[str, Evidence]) -> list[Setting]:
    """Settings with a mean, group by group, best first; then those without one."""
    ranked: list[Setting] = []
    for evidence in groups.values():
        pairs = zip(evidence.estimates, evidence.settings, strict=True)
        in_order = sorted(pairs, key=lambda pair: -evidence.sign * pair[0].value)
        ranked += [setting for _, setting in in_order]
    known = {id(one) for one in ranked}
    return [*ranked, *(one for one in settings if id(one) not in known)]


def _title(facts: StudyFacts, metric: str, estimates: list[Estimate]) -> str:
    """What is shown, in which unit, and which way is better."""
    unit = unit_of_metric(metric)
    named = label_metric(metric) + (f" in {unit}" if unit and unit not in _OWN_UNITS else "")
    better = "lower" if facts.objectives[metric] == "minimize" else "higher"
    with_ends = next((one for one in estimates if one.low is not None), None)
    interval = "" if with_ends is None else f", 95 % intervals over {with_ends.covers}"
    return f"{named}, {better} is better{interval}"


def _list_costs(facts: StudyFacts, settings: list[Setting]) -> list[tuple[str, str]]:
    """(title, metric) of what stands beside the mean: other objectives, then costs of a setting's own."""
    records, (first, _) = collect_records(settings), first_objective(facts)
    wanted = [(label_metric(metric), metric) for metric in facts.objectives if metric != first]
    memory = choose_memory_metric(records)
    time = ("step", STEP_SECONDS) if has_shared_training(records) else ("training", TRAIN_SECONDS)
    wanted += [("memory", memory)] if memory is not None else []
    wanted += [time, ("parameters", "num_trainable_params"), ("held-out loss", LOSS)]
    known = {name for setting in settings for name in setting.spreads} - {first}
    seen: dict[str, str] = {}
    for title, metric in wanted:
        seen.setdefault(metric, title)
    return [(title, metric) for metric, title in seen.items() if metric in known]


def _row(
    setting: Setting,
    varied: list[str],
    metric: str,
    estimate: Estimate | None,
    costs: list[tuple[str, str]],
    is_best: bool,
) -> RankedRow:
    means = {name: spread.mean for name, spread in setting.spreads.items()}
    return RankedRow(
        varied,
        _describe_mean(setting, metric, estimate),
        "" if estimate is None else format_interval(metric, estimate),
        [_format_bare(name, means.get(name)) for _, name in costs],
        None if estimate is None else Position(estimate.value, estimate.low, estimate.high),
        is_best,
    )


def _describe_mean(setting: Setting, metric: str, estimate: Estimate | None) -> str:
    """The mean; how its runs ended where there is none."""
    if estimate is not None:
        return _format_bare(metric, estimate.value)
    ends = [record.status.value.replace("_", " ") for record in setting.records]
    return ends[0] if len({*ends}) == 1 else count_noun(len(ends), "run")


def _base_row(base: BaseScore, which: str, metric: str, num_varied: int, num_costs: int) -> RankedRow:
    value = find_base_value(base, metric)
    return RankedRow(
        ["base" + (f" {which}" if which else ""), *[""] * (num_varied - 1)],
        _format_bare(metric, value),
        "",
        [""] * num_costs,
        None if value is None else Position(value),
        is_base=True,
    )


def _format_bare(metric: str, value: float | None) -> str:
    """The value; without its unit where the title says it."""
    has_own = unit_of_metric(metric) in _OWN_UNITS or metric == "num_trainable_params"
    return format_metric(metric, value) if has_own else format_number(value)
