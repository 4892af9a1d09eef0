"""The analysis as files: analysis.json, analysis.md and three figures."""

from pathlib import Path
from typing import Final

from sweeplab.analysis.figures import KIND_WORDS, draw_elo, draw_similarity, draw_spectra
from sweeplab.analysis.results import (
    AnalysisResults,
    analysis_to_dict,
    average_dimensions,
    list_base_spectra,
    measure_amplification,
    select_measured,
)
from sweeplab.analysis.sharing import ComparedWithChance
from sweeplab.records.store import write_json, write_text
from sweeplab.report.evidence.costs import choose_memory_metric
from sweeplab.report.evidence.formatting import DASH, format_memory, format_number
from sweeplab.report.evidence.settings import collect_records
from sweeplab.report.findings.table import Cell, Column, Table
from sweeplab.report.templating import markdown_environment

_TEMPLATES: Final = Path(__file__).parent / "templates"
_PICTURES: Final = {"similarity.svg": draw_similarity, "spectra.svg": draw_spectra, "elo.svg": draw_elo}


def write_analysis(findings: AnalysisResults, folder: Path) -> Path:
    """Writes the files; gives the path of analysis.md. The same findings give the same bytes. Raises `StoreError`."""
    drawn = set()
    for name, draw in _PICTURES.items():
        picture = draw(findings)
        if picture is None:
            (folder / name).unlink(missing_ok=True)
            continue
        write_text(folder / name, picture)
        drawn.add(name)
    page = (
        markdown_environment(_TEMPLATES)
        .get_template("analysis.md.j2")
        .render(
            findings=findings,
            drawn=drawn,
            similarity=_build_similarity_table(findings),
            amplification=_build_amplification_table(findings),
            dimensions=_build_dimensions_table(findings),
            elo=_build_elo_table(findings),
        )
    )
    write_json(folder / "analysis.json", analysis_to_dict(findings))
    write_text(folder / "analysis.md", page)
    return folder / "analysis.md"


def _build_cells(*texts: str) -> list[Cell]:
    return [Cell(text) for text in texts]


def _chance_cells(against: ComparedWithChance) -> list[Cell]:
    z = DASH if against.z is None else f"{against.z:.1f}"
    return _build_cells(format_number(against.phi), format_number(against.chance), z)


def _build_similarity_table(findings: AnalysisResults) -> Table:
    """phi of the first directions and of the whole spans, of A and of B, each beside chance."""
    titles = ("first directions, phi(1, 1)", "by chance", "z", "whole spans, phi(r1, r2)", "by chance", "z")
    columns = [Column("pairs", numeric=False), Column("of", numeric=False), *map(Column, titles)]
    rows = [
        _build_cells(KIND_WORDS[one.kind].format(*one.ranks), one.part)
        + _chance_cells(one.first())
        + _chance_cells(one.whole())
        for one in findings.shared
        if one.part in ("A", "B")
    ]
    return Table(columns, rows)


def _build_amplification_table(findings: AnalysisResults) -> Table:
    titles = ("norm of dW", "norm of W", "W on dW's directions", "on W's own", "on random ones", "amplification")
    columns = [Column("setting", numeric=False), *map(Column, titles), Column("above chance", "of matrices")]
    rows = []
    for setting in findings.settings:
        row = measure_amplification(select_measured(findings, setting))
        if row is not None:
            norms = (row.update_norm, row.weight_norm, row.on_update, row.on_itself, row.by_chance, row.amplification)
            rows.append(_build_cells(setting.label, *map(format_number, norms), f"{row.num_above}/{row.num}"))
    return Table(columns, rows)


def _build_dimensions_table(findings: AnalysisResults) -> Table:
    titles = ("effective rank", "stable rank", "participation ratio")
    columns = [Column("matrix", numeric=False), Column("directions"), *map(Column, titles)]
    spectra = [("W, the base", list_base_spectra(findings))]
    spectra += [
        (f"dW, {one.label}", [row.update_K for row in select_measured(findings, one)]) for one in findings.settings
    ]
    rows = []
    for name, members in spectra:
        found = average_dimensions(members)
        if found is not None:
            counts = [len(one) for one in members]
            rows.append(_build_cells(name, f"{sum(counts) / len(counts):.3g}", *map(format_number, found)))
    return Table(columns, rows)


def _build_elo_table(findings: AnalysisResults) -> Table:
    metric = choose_memory_metric(collect_records(findings.settings))
    columns = [
        Column("setting", numeric=False),
        *map(Column, ("Elo", "95 % of orders", "Bradley-Terry", "peak memory")),
    ]
    rows = []
    for one in [] if findings.ratings is None else findings.ratings.standings:
        strength = DASH if one.strength is None else f"{one.strength.points:.0f} ± {one.strength.stderr:.0f}"
        spread = None if metric is None else one.setting.spreads.get(metric)
        size = format_memory(None if spread is None else spread.mean)
        orders = f"{one.elo.low:.0f} to {one.elo.high:.0f}"
        rows.append(_build_cells(one.setting.label, f"{one.elo.mean:.0f}", orders, strength, size))
    return Table(columns, rows)
