"""Sizes in bytes as people write them."""

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


def num_bytes(key: str, text: str) -> int:
    """Bytes that `14GB` (1e9 each), `14GiB` (2**30 each), `0.5GB` or `14000000000` mean. Raises `ConfigError`."""
    parts = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", text.lower())
    unit = None if parts is None else _BYTE_UNITS.get(parts[2])
    if parts is None or unit is None or float(parts[1]) == 0:
        raise ConfigError(f"{key} must be a size above 0 such as 14GB, 14GiB or 14000000000, got {text}; try 14GB")
    return round(Decimal(parts[1]) * unit)
