"""Mixes data sets in given proportions. No example is repeated, and a smaller mixture is a part of a larger one."""

import math
from collections.abc import Sequence
from fractions import Fraction

from sweeplab.config.data import MixtureData
from sweeplab.data.prompts import Example
from sweeplab.runtime.errors import ConfigError


def _mix_by_weight(pools: Sequence[list[Example]], weights: Sequence[float]) -> list[Example]:
    """Examples of all pools in an order in which the first n, for every n, have the proportions of `weights`.

    The mixture is as large as possible without repeating an example: part i has weight_i * min over j of
    (size_j / weight_j) examples, rounded to the nearest, so the scarcest part is used completely. Examples are sorted
    by (k + 1/2) / weight_i for example k, from 0, of part i: Webster's method of apportionment, which is exact where
    the shares are whole numbers (Balinski and Young 1982, Fair Representation). Each part keeps its order.
    """
    exact = [Fraction(str(weight)) for weight in weights]  # from the text, so that 0.1 is exactly one tenth
    scale = min(len(pool) / weight for pool, weight in zip(pools, exact, strict=True))
    counts = [int(weight * scale + Fraction(1, 2)) for weight in exact]
    steps = [1 / weight for weight in exact]
    scale_up = math.lcm(*(step.denominator for step in steps))  # makes the sort keys integers, which sort fast
    keys = [
        ((2 * index + 1) * int(step * scale_up), part, index)
        for part, (count, step) in enumerate(zip(counts, steps, strict=True))
        for index in range(count)
    ]
    return [pools[part][index] for _, part, index in sorted(keys)]


def mix_parts(pools: Sequence[list[Example]], config: MixtureData) -> list[Example]:
    """The mixture of `config.parts`. Raises `ConfigError` where `num_examples` is more than it has."""
    order = _mix_by_weight(pools, [part.weight for part in config.parts])
    if config.num_examples is not None and config.num_examples > len(order):
        sizes = ", ".join(f"{part.path} has {len(pool)}" for part, pool in zip(config.parts, pools, strict=True))
        raise ConfigError(
            f"data.num_examples must be at most {len(order)} in these proportions without repeating an example, got "
            f"{config.num_examples} (to train on, {sizes}); lower it, or leave it null"
        )
    return order
