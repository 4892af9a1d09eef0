"""The table of claims: the verdict, our effect and the published one; and published values for the charts."""

from typing import Any, NamedTuple

from sweeplab.report.evidence.formatting import DASH, ends_text, interval_text, number, signed_text
from sweeplab.report.findings.table import Cell, Column
from sweeplab.report.findings.table import Table as Grid
from sweeplab.report.findings.verdicts import Verdict
from sweeplab.statistics.intervals import Estimate


def verdict_table(judged: list[Verdict]) -> Grid | None:
    """One row per claim with our effect beside the published one; None without claims."""
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
        ours = Cell(DASH) if one.estimate is None else effect_cell(one, one.estimate)
        published = DASH if one.claim.published is None else effect_text(one, one.claim.published)
        words = Cell(one.claim.words, one.claim.source)
        rows.append([words, Cell(one.word, one.reason), ours, Cell(published), Cell(f"{one.effect} {one.rule}")])
    return Grid(titles, rows)


def effect_text(judged: Verdict, value: float) -> str:
    return number(value) if judged.is_ratio else signed_text(judged.claim.metric, value)


def effect_cell(judged: Verdict, estimate: Estimate) -> Cell:
    """The effect, and in small print its interval and what that covers."""
    if estimate.low is None or estimate.high is None:
        return Cell(effect_text(judged, estimate.value))
    ends = interval_text(judged.claim.metric, estimate)
    if judged.is_ratio:
        ends = ends_text("", estimate.low, estimate.high)
    return Cell(effect_text(judged, estimate.value), f"{ends} over {estimate.covers}")


class Published(NamedTuple):
    """A source's own value of a metric at a setting, for the charts."""

    metric: str
    params: dict[str, Any]
    value: float
    source: str


def published_values(judged: list[Verdict]) -> list[Published]:
    """Of the claims about one setting's value that give the source's figure."""
    claims = [one.claim for one in judged]
    return [
        Published(one.metric, one.value, one.published, one.source)
        for one in claims
        if one.value is not None and one.published is not None
    ]
