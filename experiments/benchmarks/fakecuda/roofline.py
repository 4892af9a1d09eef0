"""The time of a micro-batch by roofline, from the operations that sweeplab launches on fake CUDA tensors.

An operation takes as long as its bytes or its arithmetic, and at least `SHORTEST`; the host needs `HOST` for each. A
micro-batch takes the longer of both sums. Beyond `COUNTED` trials at once the sums grow as they grew before: counted,
16 at 128 tokens differ from that by less than a thousandth. Nobody has measured it on a card.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from experiments.benchmarks.fakecuda.memory import FEW
from experiments.benchmarks.gpu.trials import LLAMA_7B
from tests.fakecuda.meter import Meter
from tests.fakecuda.trials import DQ, LAYERS, compose, count_micro_batch

SHORTEST: Final = 2e-6  # seconds of a kernel
HOST: Final = 6e-6  # seconds of the host for a launch
NUM_LAYERS: Final = 32
LENGTHS: Final = (128, 512, 2048)
COUNTED: Final = (1, 2, 4, 8)  # trials at once
EXTENDED: Final = (16, 32)
RANKS: Final = (8, 16, 32, 64)


class Card(NamedTuple):
    """What large kernels reach, about 60 % of the products and 84 % of the bytes a second of the data sheet."""

    name: str
    half_flops: float  # a second, in bfloat16
    wide_flops: float  # in float32, without TF32
    bytes: float  # a second


CARDS: Final = (
    Card("H100", 600e12, 45e12, 2.8e12),
    Card("H200", 600e12, 45e12, 4.0e12),
    Card("4090", 100e12, 55e12, 0.85e12),
)
KINDS: Final[dict[str, Callable[[int], tuple[str, ...]]]] = {  # of the trial of this number
    "layers, r 16": lambda number: ("adapter.rank=16", *LAYERS),
    "layers, r 8 to 64": lambda number: (f"adapter.rank={RANKS[number % len(RANKS)]}", *LAYERS),
}


def count(kind: str, length: int, size: int, num_layers: int) -> Meter:
    shape = (*LLAMA_7B, f"model.architecture.num_hidden_layers={num_layers}")
    configs = [compose(shape, (length,), DQ, *KINDS[kind](number)) for number in range(size)]
    return count_micro_batch(configs, (length,))


def sum_seconds(meter: Meter, card: Card) -> float:
    """Of all operations, one after another."""
    total = 0.0
    for one, times in meter.operations.items():
        speed = card.half_flops if one.half else card.wide_flops
        total += times * max(SHORTEST, one.num_bytes / card.bytes, one.flops / speed)
    return total


Sums = dict[str, float]  # launches, bytes, multiply-adds, and seconds by card


def add_up(meters: Sequence[Meter]) -> Sums:
    """Of all operations, of few layers, extended to all."""
    few, more = (
        {
            "launches": float(sum(one.operations.values())),
            "bytes": float(sum(many * each.num_bytes for each, many in one.operations.items())),
            "multiply_adds": sum(many * each.flops for each, many in one.operations.items()) / 2,
            **{card.name: sum_seconds(one, card) for card in CARDS},
        }
        for one in meters
    )
    return extend(few, more, NUM_LAYERS - FEW[0])


def extend(few: Sums, more: Sums, times: float) -> Sums:
    return {name: few[name] + times * (more[name] - few[name]) for name in few}


def wait_for_host(sums: Sums) -> Sums:
    return sums | {card.name: max(HOST * sums["launches"], sums[card.name]) for card in CARDS}


def measure(
    kinds: Sequence[str] = tuple(KINDS), lengths: Sequence[int] = LENGTHS, counted: Sequence[int] = COUNTED
) -> Iterator[dict[str, Any]]:
    for kind in kinds:
        for length in lengths:
            sums = dict[int, Sums]()
            for size in (*counted, *EXTENDED):
                if size in counted:
                    sums[size] = add_up([count(kind, length, size, number) for number in FEW])
                else:
                    few, more = counted[-2:]
                    sums[size] = extend(sums[few], sums[more], (size - few) / (more - few))
                yield {"adapters": kind, "length": length, "trials": size, **wait_for_host(sums[size])}
