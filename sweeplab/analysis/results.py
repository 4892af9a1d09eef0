"""Everything that was measured of one study's adapters, and its means by setting."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sweeplab.analysis.adapters import Array
from sweeplab.analysis.outcomes import Ratings
from sweeplab.analysis.sharing import SharedSubspaces
from sweeplab.analysis.spectra import Dimensions, count_dimensions
from sweeplab.analysis.trials import Pair, TrainedAdapter
from sweeplab.analysis.weights import MeasuredMatrix
from sweeplab.records.record import StudyFacts
from sweeplab.report.evidence.settings import Setting


@dataclass(frozen=True)
class AnalysisResults:
    facts: StudyFacts
    settings: list[Setting]
    trained: list[TrainedAdapter]
    left_out: dict[int, str]  # trial -> why
    pairs: list[Pair]
    matrices: list[str]  # whose subspaces were compared
    shared: list[SharedSubspaces]
    measured: list[MeasuredMatrix]
    base_trouble: str  # why the base could not be read; '' where it was
    ratings: Ratings | None


class Amplification(NamedTuple):
    """Table 7 for one setting: means over matrices and seeds, but for the median of the amplification."""

    update_norm: float
    weight_norm: float
    on_update: float
    on_itself: float
    by_chance: float
    amplification: float | None
    num_above: int  # of `num`, whose norm on dW lies above two standard deviations of chance
    num: int


def select_measured(findings: AnalysisResults, setting: Setting) -> list[MeasuredMatrix]:
    numbers = {record.number for record in setting.records}
    return [one for one in findings.measured if one.number in numbers]


def measure_amplification(measured: Iterable[MeasuredMatrix]) -> Amplification | None:
    """Means over the matrices that have a projection, of the factors the median; None where none has one."""
    rows = [one.projection for one in measured if one.projection is not None]
    if not rows:
        return None
    factors = [row.amplification for row in rows if row.amplification is not None]
    return Amplification(
        update_norm=float(np.mean([row.update_norm for row in rows])),
        weight_norm=float(np.mean([row.weight_norm for row in rows])),
        on_update=float(np.mean([row.on_update for row in rows])),
        on_itself=float(np.mean([row.on_itself for row in rows])),
        by_chance=float(np.mean([row.by_chance.root for row in rows])),
        amplification=float(np.median(factors)) if factors else None,
        num_above=sum(row.on_update > row.by_chance.band()[1] for row in rows),
        num=len(rows),
    )


def average_dimensions(spectra: Sequence[Array]) -> Dimensions | None:
    found = [one for one in map(count_dimensions, spectra) if one is not None]
    return Dimensions(*(float(np.mean(column)) for column in zip(*found, strict=True))) if found else None


def average_sizes(spectra: Sequence[Array]) -> Array:
    """Mean k-th singular value over those matrices that have one."""
    longest = max((len(one) for one in spectra), default=0)
    sums, counts = np.zeros(longest), np.zeros(longest)
    for one in spectra:
        sums[: len(one)] += one
        counts[: len(one)] += 1.0
    mean: Array = sums / counts
    return mean


def list_base_spectra(findings: AnalysisResults) -> list[Array]:
    """Each matrix of the first trial's base once."""
    first = findings.measured[0].number if findings.measured else None
    return [one.weight_K for one in findings.measured if one.number == first and one.weight_K is not None]


def _to_lists(values: Array) -> list[Any]:
    """Nested lists of six digits, with None for NaN."""
    if values.ndim > 1:
        return [_to_lists(row) for row in values]
    return [None if np.isnan(value) else float(f"{value:.6g}") for value in values]


def analysis_to_dict(findings: AnalysisResults) -> dict[str, Any]:
    """What `analysis.json` holds: every number behind the page, and each matrix's own."""
    return {
        "study": findings.facts.name,
        "trials": [one.record.number for one in findings.trained],
        "left_out": {str(number): why for number, why in findings.left_out.items()},
        "pairs": [
            {"kind": pair.kind, "trials": [pair.one.record.number, pair.other.record.number]} for pair in findings.pairs
        ],
        "similarity": {"matrices": findings.matrices, "groups": [_shared_to_dict(one) for one in findings.shared]},
        "base": findings.base_trouble or "read",
        "matrices": [_measured_to_dict(one) for one in findings.measured],
        "elo": None if findings.ratings is None else _ratings_to_dict(findings.ratings),
    }


def _shared_to_dict(shared: SharedSubspaces) -> dict[str, Any]:
    return {
        "kind": shared.kind,
        "ranks": list(shared.ranks),
        "part": shared.part,
        "first": shared.first()._asdict(),
        "whole": shared.whole()._asdict(),
        "phi": _to_lists(shared.mean(shared.phi_IJ)),
        "chance": _to_lists(shared.mean(shared.chance_IJ)),
    }


def _measured_to_dict(one: MeasuredMatrix) -> dict[str, Any]:
    own, base = count_dimensions(one.update_K), None if one.weight_K is None else count_dimensions(one.weight_K)
    row = one.projection
    table = None
    if row is not None:
        low, high = row.by_chance.band()
        chance = {"root_mean_square": row.by_chance.root, "low": low, "high": high}
        table = row._asdict() | {"by_chance": chance, "amplification": row.amplification}
    return {
        "trial": one.number,
        "matrix": one.name,
        "update_singular_values": _to_lists(one.update_K),
        "update_dimensions": None if own is None else own._asdict(),
        "weight_dimensions": None if base is None else base._asdict(),
        "projection": table,
    }


def _ratings_to_dict(ratings: Ratings) -> dict[str, Any]:
    rows = [
        {
            "setting": one.setting.params,
            "elo": one.elo._asdict(),
            "bradley_terry": None if one.strength is None else one.strength._asdict(),
        }
        for one in ratings.standings
    ]
    counts = {"items": ratings.num_items, "matches": ratings.num_matches}
    return {"tasks": ratings.tasks, **counts, "standings": rows}
