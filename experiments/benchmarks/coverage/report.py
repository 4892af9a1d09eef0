"""The benchmark's table in `reports/benchmarks/coverage`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sweeplab.records.store import write_json, write_text

FOLDER: Final = Path("reports/benchmarks/coverage")
MOST_WRONG: Final = 0.06
LEAST_HELD: Final = 0.935
_SETTLED: Final = 2.0  # standard errors beyond the bar, from which on a promise is said not to hold

Result = dict[str, Any]  # of a shape: its name, group, kind and quantities


class Column(NamedTuple):
    title: str
    quantities: tuple[str, ...]
    is_error: bool = False  # may be at most `MOST_WRONG`
    is_coverage: bool = False  # must be at least `LEAST_HELD`
    is_bias: bool = False  # in standard deviations, not in percent


COLUMNS: Final = (
    Column("called worse that is not: all alike; half", ("alike wrong", "half wrong"), is_error=True),
    Column("true best called worse, graded", ("graded best lost",), is_error=True),
    Column("worse ones called: half; graded", ("half power", "graded power")),
    Column("Tukey, one look: wrong, alike; half", ("alike tukey wrong", "half tukey wrong")),
    Column("Tukey: worse ones called, half; graded", ("half tukey power", "graded tukey power")),
    Column("all means hold: alike; half", ("alike means", "half means"), is_coverage=True),
    Column(
        "best's mean holds: alike; half; graded", ("alike best mean", "half best mean", "graded best mean"),
        is_coverage=True,
    ),
    Column("best's number too good by, sd: alike; graded", ("alike naive bias", "graded naive bias"), is_bias=True),
    Column("shrunken", ("alike shrunken bias", "graded shrunken bias"), is_bias=True),
    Column(
        "all differences hold: alike; half; graded", ("alike differences", "half differences", "graded differences"),
        is_coverage=True,
    ),
    Column("one contrast holds: alike; half", ("alike contrast", "half contrast"), is_coverage=True),
    Column(
        "main effects hold; of the toggle that seeds act on most", ("alike main effects", "alike worst toggle"),
        is_coverage=True,
    ),
    Column(
        "at the stop: all means; best's mean; differences; contrast",
        tuple(f"alike stopped {name}" for name in ("means", "best mean", "differences", "contrast")),
        is_coverage=True,
    ),
    Column("at the stop: worse ones called", ("half stopped power",)),
)  # fmt: skip


def write_report(results: Sequence[Result], facts: dict[str, Any]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(FOLDER / "results.json", {"shapes": list(results), "provenance": facts})
    write_text(FOLDER / "report.md", format_page(results, facts))


def format_page(results: Sequence[Result], facts: dict[str, Any]) -> str:
    """The report: what does not hold first, then a table for each group of shapes."""
    statistics = dict.fromkeys(result["statistics"] for result in results)
    num_draws = sorted({result["num_draws"] for result in results})
    page = [
        "# Do the intervals of a report hold?",
        "",
        f"{len(results)} shapes of simulated studies, {' or '.join(f'{number:,}' for number in num_draws)} draws of "
        "each world; see experiments/benchmarks/coverage. Percent of draws ± standard error. A promise holds where at "
        f"most {100 * MOST_WRONG:g} % of the studies call a setting worse that is not, and where at least "
        f"{100 * LEAST_HELD:g} % of the intervals hold the truth; **bold** is beyond that.",
        ", ".join(f"{name} {version}" for name, version in facts.items()) + f", statistics {', '.join(statistics)}.",
        "",
        "## What does not hold",
        "",
        f"Beyond the bar by more than {_SETTLED:g} standard errors:",
        "",
        *_list_failures(results),
    ]
    for group in dict.fromkeys(result["group"] for result in results):
        page += ["", f"## {group}", "", *_format_table([one for one in results if one["group"] == group])]
    return "\n".join([*page, ""])


def find_failures(results: Sequence[Result], margin: float = _SETTLED) -> list[tuple[str, str, dict[str, float]]]:
    """Shape, quantity and figure of each promise that is broken by more than `margin` standard errors."""
    failures = []
    for result in results:
        for column in COLUMNS:
            for name in column.quantities:
                found = result["quantities"].get(name)
                if found is not None and _measure_excess(column, found["value"]) > margin * found["se"]:
                    failures.append((result["name"], name, found))
    return failures


def _measure_excess(column: Column, value: float) -> float:
    """How far a value is beyond its bar."""
    if column.is_error:
        return value - MOST_WRONG
    return LEAST_HELD - value if column.is_coverage else 0.0


def _list_failures(results: Sequence[Result]) -> list[str]:
    rows = [
        f"| {shape} | {quantity} | {_format_figure(found)} % |" for shape, quantity, found in find_failures(results)
    ]
    return ["| shape | quantity | figure |", "| --- | --- | ---: |", *rows] if rows else ["Nothing."]


def _format_figure(found: dict[str, float], is_bias: bool = False) -> str:
    if is_bias:
        return f"{found['value']:.2f} ± {found['se']:.2f}"
    return f"{100 * found['value']:.1f} ± {100 * found['se']:.1f}"


def _format_cell(result: Result, column: Column) -> str:
    """The figures of a column, a dash for one that is not stated; one dash where none is."""
    texts = []
    for name in column.quantities:
        found = result["quantities"].get(name)
        if found is None:
            texts.append("–")
        else:
            text = _format_figure(found, column.is_bias)
            texts.append(f"**{text}**" if _measure_excess(column, found["value"]) > 0 else text)
    while len(texts) > 1 and texts[-1] == "–":
        texts.pop()
    return "; ".join(texts)


def _format_table(results: Sequence[Result]) -> list[str]:
    columns = [
        column for column in COLUMNS if any(name in one["quantities"] for one in results for name in column.quantities)
    ]
    rows = [["shape", *(column.title for column in columns)], ["---", *["---:"] * len(columns)]]
    rows += [[result["name"], *(_format_cell(result, column) for column in columns)] for result in results]
    return [f"| {' | '.join(row)} |" for row in rows]
