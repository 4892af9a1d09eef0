"""A claim that the records of its study cannot answer is refused."""

import math
from typing import Any

from sweeplab.checks.rules import refuse
from sweeplab.checks.tasks import check_metric
from sweeplab.claims import FORMS, ClaimConfig
from sweeplab.config import AXIS_KEYS, ConfigError
from sweeplab.records import METRICS, known_metric
from sweeplab.typed import is_number


def spaces_axes(space: dict[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """The space's axes by key, as conf spells them."""
    spec = {name: value for name, value in space.items() if name in AXIS_KEYS and not isinstance(value, dict)}
    found = {prefix.removesuffix("."): spec} if spec else {}
    for name, value in space.items():
        if name not in spec and isinstance(value, dict):
            found |= spaces_axes(value, f"{prefix}{name}.")
    return found


def check_claims(claims: list[ClaimConfig], space: dict[str, Any]) -> None:
    """Refuses the first claim that is no claim about a metric and the space. Raises `ConfigError`."""
    varied = spaces_axes(space)
    for place, claim in enumerate(claims):
        check_claim(f"claims[{place}]", claim, varied)


def check_claim(key: str, claim: ClaimConfig, varied: dict[str, dict[str, Any]]) -> None:
    check_form(key, claim)
    check_metric(f"{key}.metric", claim.metric)
    check_settings(key, claim, varied)


def check_form(key: str, claim: ClaimConfig) -> None:
    """Words, a metric, and one form with what belongs to it."""
    for part in ("words", "source", "metric"):
        if getattr(claim, part) in ("???", ""):
            raise ConfigError(f"{key}.{part} is missing; a claim has words, a source and a metric")
    if not known_metric(claim.metric):
        known = ", ".join((*METRICS, "scores.<task>.<metric>"))
        raise refuse(f"{key}.metric", "must name a metric of a record", claim.metric, f"choose from {known}")
    forms = claim.forms()
    if len(forms) != 1:
        raise refuse(key, f"must have exactly one of {', '.join(FORMS)}", forms or "none", "split it into several")
    if (claim.worse is None) == (claim.better is not None):
        raise ConfigError(f"{key}.better and {key}.worse go together; give the setting that the other is compared with")
    for form in ("same", "ratio"):
        pair = getattr(claim, form)
        if pair is not None and len(pair) != 2:
            raise refuse(
                f"{key}.{form}", "must be a list of two settings", pair, f"try {form}: [{{KEY: A}}, {{KEY: B}}]"
            )
    check_numbers(key, claim, forms[0])


def check_numbers(key: str, claim: ClaimConfig, form: str) -> None:
    """`margin` and `between` as the form needs them."""
    if not (math.isfinite(claim.margin) and claim.margin >= 0):
        raise refuse(f"{key}.margin", "must be a number from 0", claim.margin, "give it in the metric's unit")
    if form == "same" and claim.margin == 0:
        raise refuse(f"{key}.margin", "must be above 0 for `same`", claim.margin, "say how large a difference is none")
    ranged = form in ("ratio", "value", "every")
    if not ranged and claim.between is not None:
        raise refuse(f"{key}.between", f"does not go with {form}", claim.between, "use margin")
    if not ranged:
        return
    if claim.margin:
        raise refuse(f"{key}.margin", f"does not go with {form}", claim.margin, "use between")
    ends = claim.between
    rule = "must be two numbers, the lower first, null for no end"
    if ends is None or len(ends) != 2 or all(end is None for end in ends):
        raise refuse(f"{key}.between", rule, ends, "try [0.6, 0.7] or [null, 0.9]")
    low, high = ends
    if low is not None and high is not None and not low < high:
        raise refuse(f"{key}.between", rule, ends, "try [0.6, 0.7] or [null, 0.9]")


def check_settings(key: str, claim: ClaimConfig, varied: dict[str, dict[str, Any]]) -> None:
    """Settings and axes are of the space."""
    names = ", ".join(varied) or "nothing"
    axis = claim.axis()
    if axis is not None and axis not in varied:
        raise refuse(f"{key}.{claim.forms()[0]}", "must be a varied key", axis, f"the space varies {names}")
    for setting in claim.settings():
        for name, value in setting.items():
            if name not in varied:
                raise refuse(f"{key}", "must compare varied keys", name, f"the space varies {names}")
            if not on_axis(value, varied[name]):
                remedy = f"the space has {varied[name]}; drop the claims with '~claims'"
                raise refuse(f"{key}, {name}", "must be a value of the space", value, remedy)
    pair = claim.settings()
    if len(pair) == 2 and pair[0] == pair[1]:
        raise refuse(key, "must compare two settings", pair[0], "name another one")


def on_axis(value: Any, spec: dict[str, Any]) -> bool:
    """True for a listed choice, and for a number within a range."""
    if "choices" in spec:
        return isinstance(spec["choices"], list) and value in spec["choices"]
    ends = [spec.get("low"), spec.get("high")]  # a plan looks at claims before the space itself is checked
    low, high = (end if isinstance(end, int | float) else math.nan for end in ends)
    return is_number(value) and low <= value <= high
