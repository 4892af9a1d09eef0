"""The analysis as files: analysis.json, analysis.md and three figures."""

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweeplab.analysis.figures import KIND_WORDS, elo_drawing, similarity_drawing, spectra_drawing
from sweeplab.analysis.findings import Findings, amplified, as_json, base_spectra, mean_dimensions, of_setting
from sweeplab.analysis.sharing import Against
from sweeplab.records.store import write_json, write_text
from sweeplab.report.evidence.wording import DASH, memory, number
from sweeplab.report.findings.tables import Cell, Column, Table, all_records, memory_metric
from sweeplab.report.pages import escape_markdown, markdown_table

TEMPLATES: Final = Path(__file__).parent / "templates"
DRAWINGS: Final = {
    "similarity.svg": ("similarity.svg.j2", similarity_drawing),
    "spectra.svg": ("plot.svg.j2", spectra_drawing),
    "elo.svg": ("plot.svg.j2", elo_drawing),
}


def environment(**settings: Any) -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **settings)


def write_analysis(findings: Findings, folder: Path) -> Path:
    """Writes the files; gives the path of analysis.md. The same findings give the same bytes. Raises `StoreError`."""
    drawn = set()
    pictures = environment(autoescape=True)
    for name, (template, drawing) in DRAWINGS.items():
        values = drawing(findings)
        if values is None:
            (folder / name).unlink(missing_ok=True)
            continue
        write_text(folder / name, pictures.get_template(template).render(values) + "\n")
        drawn.add(name)
    words = environment(autoescape=False, finalize=escape_markdown)
    words.filters["table"] = markdown_table
    page = words.get_template("analysis.md.j2").render(
        findings=findings,
        drawn=drawn,
        similarity=similarity_table(findings),
        amplification=amplification_table(findings),
        dimensions=dimensions_table(findings),
        elo=elo_table(findings),
    )
    write_json(folder / "analysis.json", as_json(findings))
    write_text(folder / "analysis.md", page + "\n")
    return folder / "analysis.md"


def cells(*texts: str) -> list[Cell]:
    return [Cell(text) for text in texts]


def against_cells(against: Against) -> list[Cell]:
    z = DASH if against.z is None else f"{against.z:.1f}"
    return cells(number(against.phi), number(against.chance), z)


def similarity_table(findings: Findings) -> Table:
    """phi of the first directions and of the whole spans, of A and of B, each beside chance."""
    titles = ("first directions, phi(1, 1)", "by chance", "z", "whole spans, phi(r1, r2)", "by chance", "z")
    columns = [Column("pairs", numeric=False), Column("of", numeric=False), *map(Column, titles)]
    rows = [
        cells(KIND_WORDS[one.kind].format(*one.ranks), one.part)
        + against_cells(one.first())
        + against_cells(one.whole())
        for one in findings.shared
        if one.part in ("A", "B")
    ]
    return Table(columns, rows)


def amplification_table(findings: Findings) -> Table:
    titles = ("norm of dW", "norm of W", "W on dW's directions", "on W's own", "on random ones", "amplification")
    columns = [Column("setting", numeric=False), *map(Column, titles), Column("above chance", "of matrices")]
    rows = []
    for setting in findings.settings:
        row = amplified(of_setting(findings, setting))
        if row is not None:
            norms = (row.update_norm, row.weight_norm, row.on_update, row.on_itself, row.by_chance, row.amplification)
            rows.append(cells(setting.label, *map(number, norms), f"{row.num_above}/{row.num}"))
    return Table(columns, rows)


def dimensions_table(findings: Findings) -> Table:
    titles = ("effective rank", "stable rank", "participation ratio")
    columns = [Column("matrix", numeric=False), Column("directions"), *map(Column, titles)]
    spectra = [("W, the base", base_spectra(findings))]
    spectra += [(f"dW, {one.label}", [row.update_K for row in of_setting(findings, one)]) for one in findings.settings]
    rows = []
    for name, members in spectra:
        found = mean_dimensions(members)
        if found is not None:
            counts = [len(one) for one in members]
            rows.append(cells(name, f"{sum(counts) / len(counts):.3g}", *map(number, found)))
    return Table(columns, rows)


def elo_table(findings: Findings) -> Table:
    metric = memory_metric(all_records(findings.settings))
    columns = [
        Column("setting", numeric=False),
        *map(Column, ("Elo", "95 % of orders", "Bradley-Terry", "peak memory")),
    ]
    rows = []
    for one in [] if findings.ratings is None else findings.ratings.standings:
        strength = DASH if one.strength is None else f"{one.strength.points:.0f} ± {one.strength.stderr:.0f}"
        spread = None if metric is None else one.setting.spreads.get(metric)
        size = memory(None if spread is None else spread.mean)
        orders = f"{one.elo.low:.0f} to {one.elo.high:.0f}"
        rows.append(cells(one.setting.label, f"{one.elo.mean:.0f}", orders, strength, size))
    return Table(columns, rows)
