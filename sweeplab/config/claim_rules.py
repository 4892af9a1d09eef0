"""A claim that the records of its study cannot answer is refused."""

import math
from typing import Any

from sweeplab.config.study import AXIS_KEYS
from sweeplab.config.tasks import check_metric
from sweeplab.records.claim import ClaimConfig, check_form
from sweeplab.records.stored import is_number
from sweeplab.runtime.errors import refuse, write_value


def spaces_axes(space: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """The space's axes by key, as conf spells them."""
    spec = {name: value for name, value in space.items() if name in AXIS_KEYS and not isinstance(value, dict)}
    if spec and "when" in space:
        spec["when"] = space["when"]
    found = {prefix.removesuffix("."): spec} if spec else {}
    for name, value in space.items():
        if name not in spec and isinstance(value, dict):
            found |= spaces_axes(value, f"{prefix}{name}.")
    return found


def check_claims(claims: list[ClaimConfig], space: dict[str, Any]) -> None:
    """Refuses the first claim that is no claim about a metric and the space. Raises `ConfigError`."""
    varied = spaces_axes(space)
    for place, claim in enumerate(claims):
        _check_claim(f"claims[{place}]", claim, varied)


def _check_claim(key: str, claim: ClaimConfig, varied: dict[str, dict[str, Any]]) -> None:
    check_form(key, claim)
    check_metric(f"{key}.metric", claim.metric)
    _check_settings(key, claim, varied)


def _check_settings(key: str, claim: ClaimConfig, varied: dict[str, dict[str, Any]]) -> None:
    """Settings and axes are of the space."""
    names = ", ".join(varied) or "nothing"
    axis = claim.axis()
    if axis is not None and axis not in varied:
        raise refuse(f"{key}.{claim.forms()[0]}", "must be a varied key", axis, f"the space varies {names}")
    for setting in claim.settings():
        for name, value in setting.items():
            if name not in varied:
                raise refuse(f"{key}", "must compare varied keys", name, f"the space varies {names}")
            if not _on_axis(value, varied[name]):
                remedy = f"the space has {write_value(varied[name])}; drop the claims with '~claims'"
                raise refuse(f"{key}, {name}", "must be a value of the space", value, remedy)
    pair = claim.settings()
    if len(pair) == 2 and pair[0] == pair[1]:
        raise refuse(key, "must compare two settings", pair[0], "name another one")


def _on_axis(value: Any, spec: dict[str, Any]) -> bool:
    """True for a listed choice, and for a number within a range."""
    if "choices" in spec:
        return isinstance(spec["choices"], list) and value in spec["choices"]
    ends = [spec.get("low"), spec.get("high")]  # a plan looks at claims before the space itself is checked
    low, high = (end if isinstance(end, int | float) else math.nan for end in ends)
    return is_number(value) and low <= value <= high
