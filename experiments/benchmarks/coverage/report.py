"""The benchmark's table in `reports/benchmarks/coverage`."""

from collections import Counter
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
    quantities: dict[str, str]  # what a figure of the cell is of -> its name in a result
    is_error: bool = False  # may be at most `MOST_WRONG`
    is_coverage: bool = False  # must be at least `LEAST_HELD`
    is_bias: bool = False  # in standard deviations, not in percent


def _in_worlds(name: str, *worlds: str) -> dict[str, str]:
    return {world: f"{world} {name}" for world in worlds}


COLUMNS: Final = (
    Column("called worse that is not", _in_worlds("wrong", "alike", "half"), is_error=True),
    Column("true best called worse", _in_worlds("best lost", "graded"), is_error=True),
    Column("worse ones called", _in_worlds("power", "half", "graded")),
    Column("Tukey at one look, called worse that is not", _in_worlds("tukey wrong", "alike", "half")),
    Column("Tukey, worse ones called", _in_worlds("tukey power", "half", "graded")),
    Column("all means hold", _in_worlds("means", "alike", "half"), is_coverage=True),
    Column("best's mean holds", _in_worlds("best mean", "alike", "half", "graded"), is_coverage=True),
    Column("best's number too good by, sd", _in_worlds("naive bias", "alike", "graded"), is_bias=True),
    Column("shrunken, sd", _in_worlds("shrunken bias", "alike", "graded"), is_bias=True),
    Column("all differences hold", _in_worlds("differences", "alike", "half", "graded"), is_coverage=True),
    Column("one contrast holds", _in_worlds("contrast", "alike", "half"), is_coverage=True),
    Column(
        "main effects hold", {"all six": "alike main effects", "most moved toggle": "alike worst toggle"},
        is_coverage=True,
    ),
    Column(
        "holds at the stop",
        {name: f"alike stopped {name}" for name in ("means", "best mean", "differences", "contrast")},
        is_coverage=True,
    ),
    Column("at the stop, worse ones called", _in_worlds("stopped power", "half")),
)  # fmt: skip


def write_report(results: Sequence[Result], num_shapes: int, facts: dict[str, Any]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_json(FOLDER / "results.json", {"shapes": list(results), "provenance": facts})
    write_text(FOLDER / "report.md", format_page(results, num_shapes, facts))


def format_page(results: Sequence[Result], num_shapes: int, facts: dict[str, Any]) -> str:
    """The report: what does not hold first, then a table for each group of shapes."""
    those = f"{len(results)} shapes" + (
        f" (of {num_shapes}; the others were not run)" if len(results) < num_shapes else ""
    )
    marks = _mark_statistics(results)
    runs = ", ".join(f"statistics {digest}" + (f" (marked {mark})" if mark else "") for digest, mark in marks.items())
    draws, others = (_list_numbers(results, name) for name in ("num_draws", "num_other_draws"))
    page = [
        "# Do the intervals of a report hold?",
        "",
        f"{those} of simulated studies, {draws} draws where all settings are alike and {others} of each other world; "
        "see experiments/benchmarks/coverage. Percent of draws ± standard error. A promise holds where at "
        f"most {100 * MOST_WRONG:g} % of the studies call a setting worse that is not, and where at least "
        f"{100 * LEAST_HELD:g} % of the intervals hold the truth; **bold** is beyond that.",
        ", ".join(f"{name} {version}" for name, version in facts.items()) + f", {runs}.",
        "",
        "## What does not hold",
        "",
        f"Beyond the bar by more than {_SETTLED:g} standard errors:",
        "",
        *_list_failures(results),
    ]
    for group in dict.fromkeys(result["group"] for result in results):
        members = [one | {"name": one["name"] + marks[one["statistics"]]} for one in results if one["group"] == group]
        page += ["", f"## {group}", "", *_format_table(members)]
    return "\n".join([*page, ""])


def _mark_statistics(results: Sequence[Result]) -> dict[str, str]:
    """A mark for the shapes of each digest of the statistics, none for the one of most shapes."""
    digests = Counter(result["statistics"] for result in results)
    return {digest: "°" * order for order, (digest, _) in enumerate(digests.most_common())}


def _list_numbers(results: Sequence[Result], name: str) -> str:
    return " or ".join(f"{number:,}" for number in sorted({result[name] for result in results}))


def find_failures(results: Sequence[Result], margin: float = _SETTLED) -> list[tuple[str, str, dict[str, float]]]:
    """Shape, quantity and figure of each promise that is broken by more than `margin` standard errors."""
    failures = []
    for result in results:
        for column in COLUMNS:
            for name in column.quantities.values():
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


def _format_cell(result: Result, column: Column, labels: Sequence[str]) -> str:
    """The figures of a column, a dash for one that is not stated; one dash where none is."""
    texts = []
    for label in labels:
        found = result["quantities"].get(column.quantities[label])
        if found is None:
            texts.append("–")
        else:
            text = _format_figure(found, column.is_bias)
            texts.append(f"**{text}**" if _measure_excess(column, found["value"]) > 0 else text)
    return "–" if set(texts) == {"–"} else "; ".join(texts)


def _format_table(results: Sequence[Result]) -> list[str]:
    stated = {name for result in results for name in result["quantities"]}
    columns = [
        (column, [label for label, name in column.quantities.items() if name in stated])
        for column in COLUMNS
        if stated & set(column.quantities.values())
    ]
    titles = [f"{column.title}: {'; '.join(labels)}" for column, labels in columns]
    rows = [["shape", *titles], ["---", *["---:"] * len(columns)]]
    rows += [
        [result["name"], *(_format_cell(result, column, labels) for column, labels in columns)] for result in results
    ]
    return [f"| {' | '.join(row)} |" for row in rows]
