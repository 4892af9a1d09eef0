"""The end of a study in a terminal: the answer, the settings with a plot of their intervals, and what to type next.

Nothing splits a word or a number: columns that do not fit are left to the report.
"""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from sweeplab.report import Ending, end_study
from sweeplab.report.evidence.formatting import count_noun, format_number
from sweeplab.report.evidence.stored import StoredStudy
from sweeplab.report.findings.ranked import RankedRow, Ranking

_MOST_SETTINGS: Final = 12  # that are shown; more would push the answer off a screen of 24 lines
_GAP: Final = "  "
_LEAST_PLOT: Final = 14  # columns; narrower it shows nothing
_FAIR_PLOT: Final = 26  # columns that costs leave it
_MOST_PLOT: Final = 40
_MEAN, _LINE, _LEFT, _RIGHT, _BASE = "●", "─", "├", "┤", "│"
_BOLD: Final = "bold"


def show_ending(study: StoredStudy, folder: Path, report: Path, console: Console) -> None:
    """Prints how a study ended; `folder` is the study's, where its records lie, `report` the report's page."""
    end, width = end_study(study, _MOST_SETTINGS), console.width
    _show_answer(study.facts.name, end, console)
    for step in end.steps:
        _say(console, f"{step.advice[0].upper()}{step.advice[1:]}{'.' if step.command is None else ':'}", width)
        if step.command is not None:
            console.print(Text(f"  {step.command}"), soft_wrap=True)
    if _has_unsent_runs(folder):
        _say(console, f"W&B's runs are kept offline in {folder}/wandb; send them, once logged in:", width)
        console.print(Text(f"  wandb sync {folder}/wandb/offline-run-*"), soft_wrap=True)
    console.print(Text(f"records  {folder / 'trials'}\nreport   {report}"), soft_wrap=True)


def show_comparison(study: StoredStudy, report: Path, console: Console) -> None:
    """Prints what studies side by side say; `report` is their report's page. What to run next is each study's own."""
    _show_answer(study.facts.name, end_study(study, _MOST_SETTINGS), console)
    console.print(Text(f"report   {report}"), soft_wrap=True)


def _show_answer(name: str, end: Ending, console: Console) -> None:
    """The answer's sentence, the settings, and how certain it is."""
    _say(console, f"\n{name}: {end.answer.first}", console.width, _BOLD)
    if end.ranking.rows:
        console.print()
        _say(console, end.ranking.title, console.width)
        for line in draw_ranking(end.ranking, console.width):
            console.print(line, soft_wrap=True)
    console.print()
    for note in end.answer.notes:
        _say(console, note, console.width)


def _has_unsent_runs(folder: Path) -> bool:
    """W&B leaves a file `*.synced` in what it has sent."""
    return any(not list(run.glob("*.synced")) for run in folder.glob("wandb/offline-run-*"))


def _say(console: Console, sentence: str, width: int, style: str = "") -> None:
    """A sentence in lines; a word that is longer than a line stays whole, as a path has to."""
    for line in sentence.splitlines():
        wrapped = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        console.print(Text("\n".join(wrapped), style=style), soft_wrap=True)


def draw_ranking(ranking: Ranking, width: int) -> list[Text]:
    """A head, a line for each setting, and how many were left out."""
    lines = _draw_columns(ranking, width)
    drawn = [Text(lines[0])] if lines else _draw_labels(ranking, width)
    pairs = zip(lines[1:], ranking.rows, strict=True) if lines else []
    drawn += [Text(line, style=_BOLD if row.is_best else "") for line, row in pairs]
    if ranking.num_left_out:
        drawn.append(Text(f"and {count_noun(ranking.num_left_out, 'setting')} more in the report"))
    return drawn


def _draw_columns(ranking: Ranking, width: int) -> list[str]:
    """What was varied, the mean, and beside it what fits: interval, plot, costs; nothing where the first two do not."""
    texts = [[*ranking.varied, "mean"], *([*row.varied, row.mean] for row in ranking.rows)]
    lines = _align(texts, num_left=len(ranking.varied))
    if len(lines[0]) > width:
        return []
    intervals = _align([["95 % interval"], *([row.interval] for row in ranking.rows)], num_left=1)
    has_interval = any(row.interval for row in ranking.rows)
    if has_interval and len(lines[0]) + len(_GAP) + len(intervals[0]) <= width:
        lines = _put_beside(lines, intervals)
    room, has_plot = width - len(lines[0]) - len(_GAP), _has_plot(ranking)
    costs = _fit_costs(ranking, room - (_FAIR_PLOT + len(_GAP) if has_plot else 0))
    room -= len(costs[0]) + len(_GAP) if costs else 0
    if has_plot and room >= _LEAST_PLOT:
        lines = _put_beside(lines, _draw_plot(ranking.rows, min(room, _MOST_PLOT)))
    return [line.rstrip() for line in (_put_beside(lines, costs) if costs else lines)]


def _put_beside(left: list[str], right: list[str]) -> list[str]:
    return [_GAP.join(pair) for pair in zip(left, right, strict=True)]


def _draw_labels(ranking: Ranking, width: int) -> list[Text]:
    """For a narrow terminal: the mean, then `key=value` of what was varied, in as many lines as that takes."""
    means = _align([[row.mean] for row in ranking.rows])
    drawn = []
    for mean, row in zip(means, ranking.rows, strict=True):
        pairs = zip(ranking.varied, row.varied, strict=True)
        named = row.varied[0] if row.is_base else " ".join(f"{key}={value}" for key, value in pairs)
        indent = " " * (len(mean) + len(_GAP))
        lines = textwrap.wrap(
            f"{mean}{_GAP}{named}", width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        drawn.append(Text("\n".join(lines), style=_BOLD if row.is_best else ""))
    return drawn


def _align(rows: Sequence[Sequence[str]], num_left: int = 0) -> list[str]:
    """Rows of equal length: the first `num_left` columns begin alike, the others end alike."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(
            cell.ljust(width) if place < num_left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _fit_costs(ranking: Ranking, room: int) -> list[str]:
    """The columns beside the mean that fit into `room`, the first ones first; nothing where none does."""
    for count in range(len(ranking.costs), 0, -1):
        lines = _align([ranking.costs[:count], *(row.costs[:count] for row in ranking.rows)])
        if len(lines[0]) <= room:
            return lines
    return []


def _has_plot(ranking: Ranking) -> bool:
    """Two means of the same thing are worth a plot."""
    return ranking.is_comparable and sum(row.position is not None and not row.is_base for row in ranking.rows) > 1


def _draw_plot(rows: list[RankedRow], width: int) -> list[str]:
    """The ends of the scale, then a line for each row: the mean in its interval; a base beyond it at its end."""
    known = [
        number for row in rows if row.position and not row.is_base for number in row.position if number is not None
    ]
    low, high = min(known), max(known)
    spread = high - low or 1.0

    def place(value: float) -> int:
        return max(0, min(width - 1, round((value - low) / spread * (width - 1))))

    ends = format_number(low), format_number(high)
    return [f"{ends[0]}{ends[1].rjust(width - len(ends[0]))}", *(_draw_mean(row, width, place) for row in rows)]


def _draw_mean(row: RankedRow, width: int, place: Callable[[float], int]) -> str:
    """`   ├──●───┤   `; a mean without an interval stands alone, a base as a bar of its own."""
    letters, position = [" "] * width, row.position
    if position is None:
        return "".join(letters)
    if position.low is not None and position.high is not None:
        first, last = place(position.low), place(position.high)
        letters[first : last + 1] = [_LINE] * (last + 1 - first)
        letters[first], letters[last] = _LEFT, _RIGHT
    letters[place(position.value)] = _BASE if row.is_base else _MEAN
    return "".join(letters)
