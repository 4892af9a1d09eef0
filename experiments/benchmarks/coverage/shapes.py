"""The shapes of studies that are simulated, by group."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from experiments.benchmarks.coverage.items import Answers, Losses, Shares
from experiments.benchmarks.coverage.studies import (
    MASKS_KA,
    RATIOS,
    Additive,
    Drawer,
    Incomplete,
    Masks,
    Proportional,
    count_as_worst,
    drop_worst,
    lose_at_random,
)

WORLDS: Final = ("alike", "half")
GRADED: Final = (*WORLDS, "graded")
_MOST_LOOKED_AT: Final = 10


@dataclass(frozen=True)
class Shape:
    """Studies of a kind with so many settings and seeds, in each of some worlds."""

    group: str
    kind: str
    drawer: Drawer
    num_settings: int
    num_seeds: int
    worlds: tuple[str, ...] = WORLDS
    has_looks: bool = False  # seeds are added one by one from two on, with a look after each

    def needs_intervals(self, world: str) -> bool:
        """False where some settings are shifted, which changes calls and no interval."""
        return world != "half" or self.has_looks or not isinstance(self.drawer, Additive)

    @property
    def name(self) -> str:
        seeds = f"2 to {self.num_seeds}" if self.has_looks else self.num_seeds
        return f"{self.kind}, {self.num_settings} settings, seeds {seeds}"


def list_shapes() -> list[Shape]:
    """All shapes, in the order of the report."""
    return [
        *_list_spreads(),
        *_list_proportional(),
        *_list_masks(),
        *_list_items(),
        *_list_incomplete(),
        *_list_looks(),
    ]


def _cross(
    group: str, kind: str, drawer: Drawer, settings: tuple[int, ...], seeds: tuple[int, ...], *worlds: str
) -> Iterator[Shape]:
    for num_settings, num_seeds in itertools.product(settings, seeds):
        yield Shape(group, kind, drawer, num_settings, num_seeds, worlds or WORLDS)


def _list_spreads() -> Iterator[Shape]:
    yield from _cross("Equal spread", "equal", Additive(), (2, 4, 7, 16, 64), (1, 2, 3, 5, 10), *GRADED)
    for kind in ("lognormal 0.5", "lognormal 1"):
        yield from _cross("Unlike spreads", kind, Additive(kind), (4, 7, 16, 64), (2, 3, 5))
    for kind, title in (
        ("t3", "heavy tails (t3)"),
        ("collapse 0.1 10", "10 % collapse by 10"),
        ("collapse 0.03 8", "3 % collapse by 8"),
    ):
        yield from _cross("Heavy tails and collapse", title, Additive(kind), (7, 16, 64), (2, 3, 5))
    for size in ("1", "2.7"):
        kind = f"common {size}"
        yield from _cross("Seeds move all settings", f"seed effect {size}", Additive(kind), (2, 7, 64), (2, 3))


def _list_proportional() -> Iterator[Shape]:
    group = "Losses: spread in proportion to the mean"
    for scale, is_log in (("logarithms", True), ("linear", False)):
        yield from _cross(group, f"20 %, {scale}", Proportional(is_log), (7, 64), (2, 3), *GRADED)
    common = Proportional(True, common=1.0)
    yield from _cross(group, "20 %, seed effect 1, logarithms", common, (7,), (2, 3))


def _list_masks() -> Iterator[Shape]:
    for ratios in RATIOS:
        kind = f"{ratios} seed x toggle"
        yield from _cross("Main effects of six toggles", kind, Masks(ratios), (len(MASKS_KA),), (2, 3), "alike")


def _list_items() -> Iterator[Shape]:
    group = "Shares of right items that spread by their number only"
    for probability, num_items in itertools.product((0.015, 0.5, 0.985), (50, 200, 1000, 10_000)):
        kind = f"p {probability}, {num_items:,} items"
        yield from _cross(group, kind, Shares(probability, num_items), (7,), (2, 3) if num_items < 1000 else (2,))
    for middle, where in ((-5.2, "near 0"), (0.0, "near 0.5"), (5.2, "near 1")):
        for has_items, num_items in itertools.product((True, False), (50, 200, 1000, 10_000)):
            kind = f"{where}, {num_items:,} items {'with' if has_items else 'without'} results"
            drawer = Answers(middle, num_items, has_items)
            group = f"Items of unlike difficulty, {'with' if has_items else 'without'} results by item"
            seeds = ((1, 2, 3) if has_items else (2, 3)) if num_items in (50, 200) else (2,)
            yield from _cross(group, kind, drawer, (7,), seeds)
    for num_items, is_perplexity in itertools.product((20, 500), (False, True)):
        kind = f"{'perplexity' if is_perplexity else 'loss'} of {num_items} examples"
        yield from _cross("Losses by example, and perplexity", kind, Losses(num_items, is_perplexity), (7,), (2, 3))


def _list_incomplete() -> Iterator[Shape]:
    for title, lose in (
        ("10 % missing at random", lose_at_random),
        ("worst 10 % failed, dropped", drop_worst),
        ("worst 10 % failed, count as worst", count_as_worst),
    ):
        settings = (7, 16, 64) if lose is lose_at_random else (7, 16)
        yield from _cross("Runs that are missing", title, Incomplete(lose), settings, (2, 3, 5))


def _list_looks() -> Iterator[Shape]:
    group = "Seeds added one by one, looked at after each"
    for kind, num_settings in (("equal", 4), ("equal", 7), ("equal", 16), ("equal", 64), ("lognormal 0.5", 7)):
        worlds = WORLDS if num_settings == 7 else ("alike",)
        yield Shape(group, kind, Additive(kind), num_settings, _MOST_LOOKED_AT, worlds, has_looks=True)
