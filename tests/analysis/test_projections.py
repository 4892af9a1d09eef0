"""Projections of W: constructed cases, simulated chance, and the paper's own table 7."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from sweeplab.analysis.adapters import Array, Factors
from sweeplab.analysis.projections import RandomNorm, expect_random_norm, measure_projected_norm, project_onto_update
from sweeplab.analysis.spectra import Decomposition, decompose_update, find_spectrum


def update(b_OR: Array, a_RI: Array) -> Decomposition:
    return decompose_update(Factors(a_RI, b_OR, 1.0))


def test_a_known_amplification(rng: np.random.Generator) -> None:
    """W has 0.1 along u v^T and 5 elsewhere; dW = 2 u v^T: amplification 20. W's own direction carries 5."""
    left = np.linalg.qr(rng.standard_normal((8, 3)))[0]
    right = np.linalg.qr(rng.standard_normal((6, 3)))[0]
    weight_OI = left @ np.diag([5.0, 3.0, 0.1]) @ right.T
    row = project_onto_update(weight_OI, find_spectrum(weight_OI), update(2 * left[:, 2:], right[:, 2:].T))
    assert row.rank == 1
    assert row.update_norm == pytest.approx(2, rel=1e-12)
    assert row.weight_norm == pytest.approx(np.sqrt(34.01), rel=1e-12)
    assert row.on_update == pytest.approx(0.1, rel=1e-10)
    assert row.on_itself == pytest.approx(5, rel=1e-12)
    assert row.amplification == pytest.approx(20, rel=1e-10)


def test_nothing_of_w_there_gives_no_amplification() -> None:
    weight_OI = np.diag([3.0, 0.0])
    row = project_onto_update(
        weight_OI, find_spectrum(weight_OI), update(np.array([[0.0], [1.0]]), np.array([[0.0, 1.0]]))
    )
    assert row.on_update == 0
    assert row.amplification is None


def test_projections_are_numpys(rng: np.random.Generator) -> None:
    weight_OI, b_OR, a_RI = (rng.standard_normal(shape) for shape in ((9, 12), (9, 4), (4, 12)))
    row = project_onto_update(weight_OI, find_spectrum(weight_OI), update(b_OR, a_RI))
    u, _, vt = np.linalg.svd(b_OR @ a_RI)
    assert row.on_update == pytest.approx(float(np.linalg.norm(u[:, :4].T @ weight_OI @ vt[:4].T)), rel=1e-10)
    u, _, vt = np.linalg.svd(weight_OI)
    assert row.on_itself == pytest.approx(float(np.linalg.norm(u[:, :4].T @ weight_OI @ vt[:4].T)), rel=1e-10)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(10, 10, 1), (6, 14, 3), (12, 5, 4), (7, 7, 7)])
def test_chance_has_the_stated_mean_and_spread(rng: np.random.Generator, rows: int, columns: int, rank: int) -> None:
    """Against 8,000 random pairs of bases, for a W with an uneven spectrum."""
    weight_OI = rng.standard_normal((rows, columns)) * np.linspace(0.1, 3, columns)
    lefts, rights = (np.linalg.qr(rng.standard_normal((8000, size, rank)))[0] for size in (rows, columns))
    squares = np.square(lefts.transpose(0, 2, 1) @ weight_OI @ rights).sum((1, 2))
    stated = expect_random_norm(find_spectrum(weight_OI), rank, rows, columns)
    assert stated.mean_square == pytest.approx(rank**2 * float(np.square(weight_OI).sum()) / (rows * columns))
    # the square root of a difference of equal numbers leaves half the digits
    assert squares.mean() == pytest.approx(stated.mean_square, rel=1e-9, abs=4 * stated.std_square / 8000**0.5)
    assert squares.std() == pytest.approx(stated.std_square, rel=0.06, abs=1e-6 * stated.mean_square)
    inside = [stated.band()[0] - 1e-9 <= np.sqrt(one) <= stated.band()[1] + 1e-6 for one in squares]
    assert np.mean(inside) > 0.93


def test_the_whole_space_holds_all_of_w(rng: np.random.Generator) -> None:
    weight_OI = rng.standard_normal((5, 5))
    norm = float(np.linalg.norm(weight_OI))
    assert measure_projected_norm(weight_OI, np.eye(5), np.linalg.qr(rng.standard_normal((5, 5)))[0]) == pytest.approx(
        norm
    )
    assert expect_random_norm(find_spectrum(weight_OI), 5, 5, 5).root == pytest.approx(norm)


def test_a_band_never_goes_below_zero() -> None:
    assert RandomNorm(1.0, 3.0).band() == pytest.approx((0.0, 7**0.5))


def test_the_papers_random_case_is_what_the_formula_gives(shared_data: Path) -> None:
    """GPT-3's query is 12,288 x 12,288: 61.95 r / 12,288 is 0.02 at r = 4 and 0.32 (printed 0.33) at r = 64."""
    path = shared_data.parent / "published" / "lora_paper.csv"
    if not path.is_file():
        pytest.skip("no published figures beside the data")
    with path.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["table"].startswith("7 ")]
    printed = {(row["setting"], int(row["rank"])): row["other"] for row in rows}
    norms = re.fullmatch(r"0\.32 \(norm of dWq (.*); norm of Wq (.*); amplification (.*)\)", printed["dWq", 4])
    assert norms is not None
    update, weight, factor = map(float, norms.groups())
    sizes = np.array([weight])  # the mean depends on the norm only
    for rank, rounding in ((4, 0.005), (64, 0.01)):
        stated = expect_random_norm(sizes, rank, 12_288, 12_288)
        assert stated.root == pytest.approx(float(printed["random", rank]), abs=rounding)
    assert update / 0.32 == pytest.approx(factor, abs=0.1)
    assert float(printed["Wq", 4]) > stated.root


def test_a_decomposition_knows_its_norm() -> None:
    assert Decomposition(np.eye(2), np.array([3.0, 4.0]), np.eye(2)).norm == 5
