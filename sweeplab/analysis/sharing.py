"""Subspace similarity over the pairs of a study, gathered by what the two trials differ in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from sweeplab.analysis.adapters import Array, Factors, read_factors
from sweeplab.analysis.spectra import decompose_update
from sweeplab.analysis.subspaces import (
    Chance,
    expect_by_chance,
    expect_grid_by_chance,
    find_directions,
    measure_similarity,
)
from sweeplab.analysis.trials import Pair, TrainedAdapter
from sweeplab.statistics.selection import pick_evenly

MOST_MATRICES: Final = 64
_PARTS: Final = ("A", "B", "dW right", "dW left")  # right singular vectors of A, left ones of B, and both of dW = B A


class ComparedWithChance(NamedTuple):
    """A mean phi over matrices and pairs beside chance; z counts standard deviations of that mean by chance.

    None where no two subspaces had as many dimensions, or chance has no spread.
    """

    phi: float | None
    chance: float | None
    z: float | None
    num: int


class _Point(NamedTuple):
    """phi of the first directions and of the whole spans in one matrix of one pair; None: a span is smaller."""

    first: float | None
    whole: float | None
    width: int  # dimensions of the space that the directions live in


@dataclass
class SharedSubspaces:
    """All pairs of one kind and two ranks, for one part; grids have i in rows, j in columns."""

    kind: str
    ranks: tuple[int, int]
    part: str
    phi_IJ: Array  # sums over matrices and pairs
    chance_IJ: Array
    counts_IJ: Array
    points: list[_Point]

    @classmethod
    def empty(cls, kind: str, ranks: tuple[int, int], part: str) -> "SharedSubspaces":
        return cls(kind, ranks, part, np.zeros(ranks), np.zeros(ranks), np.zeros(ranks), [])

    def add(self, one_DI: Array, other_DJ: Array) -> None:
        phi_IJ = measure_similarity(one_DI, other_DJ)
        (rows, columns), width = phi_IJ.shape, one_DI.shape[0]
        self.phi_IJ[:rows, :columns] += phi_IJ
        self.chance_IJ[:rows, :columns] += expect_grid_by_chance(rows, columns, width)
        self.counts_IJ[:rows, :columns] += 1.0
        first = float(phi_IJ[0, 0]) if phi_IJ.size else None
        self.points.append(_Point(first, float(phi_IJ[-1, -1]) if phi_IJ.shape == self.ranks else None, width))

    def mean(self, sums_IJ: Array) -> Array:
        """Over the matrices and pairs that have the entry; NaN where none has."""
        mean: Array = np.divide(sums_IJ, self.counts_IJ, out=np.full(self.ranks, np.nan), where=self.counts_IJ > 0)
        return mean

    def first(self) -> ComparedWithChance:
        return _compare_with_chance([(one.first, expect_by_chance(1, 1, one.width)) for one in self.points])

    def whole(self) -> ComparedWithChance:
        return _compare_with_chance(
            [(one.whole, expect_by_chance(*self.ranks, one.width)) for one in self.points if one.whole is not None]
        )


def _compare_with_chance(rows: Sequence[tuple[float | None, Chance]]) -> ComparedWithChance:
    """The mean of phi beside that of chance, whose matrices are independent."""
    known = [(phi, by) for phi, by in rows if phi is not None]
    if not known:
        return ComparedWithChance(None, None, None, 0)
    num = len(known)
    spread = float(np.sqrt(sum(by.std**2 for _, by in known))) / num
    mean = Chance(sum(by.mean for _, by in known) / num, spread)
    phi = sum(value for value, _ in known) / num
    return ComparedWithChance(phi, mean.mean, mean.z(phi), num)


def _find_bases(factors: Factors) -> dict[str, Array]:
    update = decompose_update(factors)
    return {
        "A": find_directions(factors.a_RI),
        "B": find_directions(factors.b_OR.T),
        "dW right": update.right_IK,
        "dW left": update.left_OK,
    }


def choose_matrices(trained: Sequence[TrainedAdapter], most: int) -> list[str]:
    """Names of adapted matrices in the model's order, evenly drawn where there are more than `most`."""
    names = dict.fromkeys(
        layer["name"] for one in trained for layer in one.record.adapter_layers if layer["name"] in one.adapter.shapes
    )
    return pick_evenly(list(names), most)


def measure_sharing(pairs: Sequence[Pair], names: Sequence[str], say: Callable[[str], None]) -> list[SharedSubspaces]:
    """One `SharedSubspaces` for each kind, pair of ranks, and part. Raises `StoreError` for a damaged adapter."""
    groups: dict[tuple[str, tuple[int, int], str], SharedSubspaces] = {}
    members = {trial.record.number: trial for pair in pairs for trial in (pair.one, pair.other)}
    for index, name in enumerate(names, 1):
        say(f"subspaces of {name}, matrix {index} of {len(names)}")
        bases = {
            number: _find_bases(read_factors(trial.adapter, name))
            for number, trial in members.items()
            if name in trial.adapter.shapes
        }
        for pair in pairs:
            one, other = (bases.get(trial.record.number) for trial in (pair.one, pair.other))
            if one is None or other is None:
                continue
            ranks = (pair.one.rank, pair.other.rank)
            for part in _PARTS:
                if one[part].shape[0] != other[part].shape[0]:
                    continue
                shared = groups.setdefault((pair.kind, ranks, part), SharedSubspaces.empty(pair.kind, ranks, part))
                shared.add(one[part], other[part])
    return list(groups.values())
