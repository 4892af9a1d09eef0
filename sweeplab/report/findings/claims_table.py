"""Builds the table of claims (verdict, our effect, published effect), and lists published values for the charts."""

from typing import Any, NamedTuple

from sweeplab.report.evidence.formatting import (
    DASH,
    cut_ends,
    format_difference,
    format_ends,
    format_interval,
    format_mean,
    format_number,
)
from sweeplab.report.findings.table import Cell, Column
from sweeplab.report.findings.table import Table as Grid
from sweeplab.report.findings.verdicts import Verdict
from sweeplab.statistics.intervals import Estimate


def build_claims_table(judged: list[Verdict]) -> Grid | None:
    """One row for each claim with our effect and the published one; None without claims."""
    if not judged:
        return None
    titles = [
        Column("claim", numeric=False),
        Column("verdict", numeric=False),
        Column("ours"),
        Column("published"),
        Column("supported if", numeric=False),
    ]
    rows = []
    for one in judged:
        ours = Cell(DASH) if one.estimate is None else _effect_cell(one, one.estimate)
        published = DASH if one.claim.published is None else _format_effect(one, one.claim.published)
        words = Cell(one.claim.words, one.claim.source)
        rows.append([words, Cell(one.word, one.reason), ours, Cell(published), Cell(f"{one.effect} {one.rule}")])
    return Grid(titles, rows)


def _format_effect(judged: Verdict, value: float) -> str:
    return format_number(value) if judged.is_ratio else format_difference(judged.claim.metric, value)


def _effect_cell(judged: Verdict, estimate: Estimate) -> Cell:
    """The effect, and in small print its interval with what it covers."""
    if estimate.low is None or estimate.high is None:
        return Cell(_format_effect(judged, estimate.value))
    if judged.is_ratio:
        ends = format_ends("", *cut_ends(estimate.value, estimate.low, estimate.high))
        return Cell(format_number(estimate.value), f"{ends} over {estimate.covers}")
    name = judged.claim.metric
    return Cell(format_mean(name, estimate), f"{format_interval(name, estimate)} over {estimate.covers}")


class PublishedValue(NamedTuple):
    """The value of a metric that a source published for a setting."""

    metric: str
    params: dict[str, Any]
    value: float
    source: str


def list_published_values(judged: list[Verdict]) -> list[PublishedValue]:
    """The published values of the claims that are about the value of one setting."""
    claims = [one.claim for one in judged]
    return [
        PublishedValue(one.metric, one.value, one.published, one.source)
        for one in claims
        if one.value is not None and one.published is not None
    ]
