"""Which examples make a mixture: stated proportions, nothing twice, and a smaller mixture within a larger one."""

import math
from collections.abc import Sequence
from fractions import Fraction

from sweeplab.config.data import DataConfig
from sweeplab.data.prompts import Example
from sweeplab.runtime.errors import ConfigError


def mix_by_weight(pools: Sequence[list[Example]], weights: Sequence[float]) -> list[Example]:
    """Examples of all pools in an order whose every beginning has the proportions of `weights`.

    As many as can be had without repeating one: the scarcest part is used whole, and part i has
    weight_i * min over j of (size_j / weight_j), rounded to the nearest. Example k of part i, from 0, has the place
    (k + 1/2) / weight_i: Webster's method of apportionment, exact wherever the shares come out whole (Balinski and
    Young 1982, Fair Representation). Within a part, the order of its pool is kept.
    """
    exact = [Fraction(str(weight)) for weight in weights]  # 0.1 is a tenth
    scale = min(len(pool) / weight for pool, weight in zip(pools, exact, strict=True))
    counts = [int(weight * scale + Fraction(1, 2)) for weight in exact]
    steps = [1 / weight for weight in exact]
    whole = math.lcm(*(step.denominator for step in steps))  # places as whole numbers sort fast
    places = [
        ((2 * place + 1) * int(step * whole), part, place)
        for part, (count, step) in enumerate(zip(counts, steps, strict=True))
        for place in range(count)
    ]
    return [pools[part][place] for _, part, place in sorted(places)]


def make_mixture(pools: Sequence[list[Example]], config: DataConfig) -> list[Example]:
    """`mix_by_weight` by `config.parts`. Raises `ConfigError` where `num_examples` would need one twice."""
    order = mix_by_weight(pools, [part.weight for part in config.parts])
    if config.num_examples is not None and config.num_examples > len(order):
        sizes = ", ".join(f"{part.path} has {len(pool)}" for part, pool in zip(config.parts, pools, strict=True))
        raise ConfigError(
            f"data.num_examples must be at most {len(order)} in these proportions without repeating an example, got "
            f"{config.num_examples} (to train on, {sizes}); lower it, or leave it null"
        )
    return order
