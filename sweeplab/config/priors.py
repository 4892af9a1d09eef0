"""Where a search for the learning rate begins: published rates by family and size (`conf/priors.yaml`)."""

import json
import math
from pathlib import Path
from typing import Any, Final

import yaml

from sweeplab.config.conf import CONF, PACKAGE
from sweeplab.config.model import AnyModel, EmbeddedModel, LocalModel

_STEPS: Final = (0, 1, -1, 2, -2)  # half decades around the published rate, in the order in which they are tried
_FURTHER: Final = 3  # half decades beyond each end
_HALVES: Final = (1.0, 3.0)  # of a decade


def list_prior_rates(model: AnyModel) -> list[float]:
    """Rates around the published one for the model's family and hidden size, the likeliest first."""
    values = _read_config(model)
    nested = values.get("text_config")
    sizes = {**values, **nested} if isinstance(nested, dict) else values
    family, hidden_size = str(sizes.get("model_type", "")), sizes.get("hidden_size")
    rates = yaml.safe_load((CONF / "priors.yaml").read_text(encoding="utf-8"))["rates"]
    known = next((one for one in rates if one in family), "other") if isinstance(hidden_size, int) else "other"
    prior = rates[known]
    rate = prior["rate"] * ((hidden_size or 1) / prior["at_hidden_size"]) ** prior["exponent"]
    return list_rates_around(rate)


def list_rates_around(rate: float) -> list[float]:
    """Half decades around a rate, the nearest to it first."""
    center = round(2 * math.log10(rate))
    return [_half_decade(center + step) for step in _STEPS]


def list_further_rates(rates: list[float]) -> list[float]:
    """The next half decades beyond both ends of `rates`."""
    lowest, highest = (round(2 * math.log10(rate)) for rate in (min(rates), max(rates)))
    ends = [(highest + count, lowest - count) for count in range(1, _FURTHER + 1)]
    return [_half_decade(place) for pair in ends for place in pair]


def _half_decade(place: int) -> float:
    """1e-4, 3e-4, 1e-3 ... for -8, -7, -6 ..."""
    return float(f"{_HALVES[place % 2]:g}e{place // 2}")


def _read_config(model: AnyModel) -> dict[str, Any]:
    """The Hugging Face config values that are at hand without a network; empty where there are none."""
    if model.config_values:
        return model.config_values
    folder = PACKAGE / "builtin" / model.name if isinstance(model, EmbeddedModel) else None
    path = Path(model.path) if isinstance(model, LocalModel) else folder
    try:
        values = json.loads((path / "config.json").read_text(encoding="utf-8")) if path is not None else {}
    except (OSError, ValueError):  # loading the model says what is wrong with it
        return {}
    return values if isinstance(values, dict) else {}
