"""Which examples make a mixture: stated proportions, nothing twice, and a smaller mixture within a larger one."""

from collections.abc import Sequence
from fractions import Fraction

from sweeplab.config import ConfigError, DataConfig
from sweeplab.data.prompts import Example


def next_part(taken: Sequence[int], weights: Sequence[Fraction]) -> int:
    """The part that is furthest behind its share: the smallest (taken + 1/2) / weight, the first of equals.

    Webster's method of apportionment: counts are exactly proportional wherever that comes out whole, and the nearest
    to it otherwise; with one example more, no part has fewer (Balinski and Young 1982, Fair Representation).
    """
    return min(range(len(weights)), key=lambda part: (taken[part] + Fraction(1, 2)) / weights[part])


def mixed(pools: Sequence[list[Example]], weights: Sequence[float]) -> list[Example]:
    """Examples of all pools in an order whose every beginning has the proportions of `weights`.

    It ends where the part whose turn it is has none left, so that no example comes twice. Within a part, the order of
    its pool is kept.
    """
    exact = [Fraction(str(weight)) for weight in weights]  # 0.1 is a tenth
    taken = [0] * len(pools)
    order: list[Example] = []
    while True:
        part = next_part(taken, exact)
        if taken[part] == len(pools[part]):
            return order
        order.append(pools[part][taken[part]])
        taken[part] += 1


def mixture(pools: Sequence[list[Example]], config: DataConfig) -> list[Example]:
    """`mixed` by `config.parts`. Raises `ConfigError` where `num_examples` would need one twice."""
    order = mixed(pools, [part.weight for part in config.parts])
    if config.num_examples is not None and config.num_examples > len(order):
        sizes = ", ".join(f"{part.path} has {len(pool)}" for part, pool in zip(config.parts, pools, strict=True))
        raise ConfigError(
            f"data.num_examples must be at most {len(order)} in these proportions without repeating an example, got "
            f"{config.num_examples} (to train on, {sizes}); lower it, or leave it null"
        )
    if not order:
        raise ConfigError("data.parts: a weight is so large that its file ends before the first example of another")
    return order
