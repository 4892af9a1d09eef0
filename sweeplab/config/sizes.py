"""Sizes in bytes, and times, as people write them."""

import re
from decimal import Decimal
from typing import Final

from sweeplab.runtime.errors import ConfigError

_BYTE_UNITS: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
# MiB that a program sees of a card, by nvidia-smi (thundergolfer.com/blog/nvidia-gpu-memory-capacity); of a T4, CUDA's
_CARDS: Final = {
    "t4": 15_109,
    "a10": 23_028,
    "l4": 23_034,
    "a100-40gb": 40_960,
    "l40s": 46_068,
    "h100": 81_559,
    "a100-80gb": 81_920,
    "h200": 143_771,
}

_TIME_UNITS: Final = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def num_seconds(key: str, text: str) -> float:
    """Seconds that `90s`, `20min`, `1.5h` or `2d` mean. Raises `ConfigError`, also for a number without a unit."""
    parts = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", text.lower())
    unit = None if parts is None else _TIME_UNITS.get(parts[2])
    if parts is None or unit is None or float(parts[1]) == 0:
        remedy = f"try {key}={text.strip()}min" if re.fullmatch(r"\s*\d+\s*", text) else f"try {key}=20min"
        raise ConfigError(f"{key} must be a time above 0 with its unit, such as 90s, 20min or 2h, got {text}; {remedy}")
    return float(parts[1]) * unit


def num_bytes(key: str, text: str) -> int:
    """Bytes that `14GB` (1e9 each), `14GiB` (2**30 each), `0.5GB`, `14000000000` or a card such as `t4` mean. Raises
    `ConfigError`."""
    if (card := _CARDS.get(text.strip().lower())) is not None:
        return card * 2**20
    parts = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", text.lower())
    unit = None if parts is None else _BYTE_UNITS.get(parts[2])
    if parts is None or unit is None or float(parts[1]) == 0:
        rule = f"must be a size above 0 such as 14GB, 14GiB or 14000000000, or a card ({', '.join(_CARDS)})"
        raise ConfigError(f"{key} {rule}, got {text}; try 14GB")
    return round(Decimal(parts[1]) * unit)
