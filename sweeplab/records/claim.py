"""Claims of an experiment as data: a sentence, its source, and the condition on the records that would support it."""

import math
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from sweeplab.records.metrics import METRICS, known_metric
from sweeplab.runtime.errors import ConfigError, refuse

_FORMS: Final = ("better", "same", "rises_with", "falls_with", "ratio", "value", "every")


class ClaimConfig(BaseModel):
    """A sentence that the records of a study support, contradict or leave open. Exactly one form must be given.

    A setting is a point of the space by key. Where it names some of the keys only, the mean of all settings with these
    values counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    words: str = ""  # the claim as a reader would say it
    source: str = ""  # who said it
    metric: str = ""  # of a record
    better: dict[str, Any] | None = None  # this setting is better than `worse`, by more than `margin`
    worse: dict[str, Any] | None = None
    same: list[dict[str, Any]] | None = None  # these two differ by less than `margin`
    rises_with: str | None = None  # the metric rises along this axis, by more than `margin` from value to value
    falls_with: str | None = None  # it falls
    ratio: list[dict[str, Any]] | None = None  # the first setting's value over the second's is in `between`
    value: dict[str, Any] | None = None  # this setting's value is in `between`
    every: dict[str, Any] | None = None  # that of every setting that this names is; {}: of all
    margin: float = 0.0  # in the metric's unit
    between: list[int | float | None] | None = None  # lowest and highest value, null for no limit
    published: float | None = None  # the value that the source gives: a difference, a ratio or a value, by the form

    def forms(self) -> list[str]:
        """The forms that are given; `check_form` makes sure that there is exactly one."""
        return [form for form in _FORMS if getattr(self, form) is not None]

    def settings(self) -> list[dict[str, Any]]:
        """Every setting that the claim names, in the order of the effect: first minus second, or first over second."""
        named = [self.better, self.worse, *(self.same or []), *(self.ratio or []), self.value, self.every]
        return [setting for setting in named if setting is not None]

    def axis(self) -> str | None:
        return self.rises_with if self.rises_with is not None else self.falls_with


def claim_from_dict(name: str, values: Any) -> ClaimConfig:
    """The claim that `model_dump` wrote. Raises `ValueError` that names an unknown field or one of another type."""
    try:
        return ClaimConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, (name, *first["loc"])))
        raise ValueError(f"{field} is malformed: {first['msg']}") from error


def check_form(key: str, claim: ClaimConfig) -> None:
    """Checks that a claim has words, source, metric, and one form with what it needs. Raises `ConfigError`."""
    for part in ("words", "source", "metric"):
        if getattr(claim, part) in ("???", ""):
            raise ConfigError(f"{key}.{part} is missing; a claim has words, a source and a metric")
    if not known_metric(claim.metric):
        known = ", ".join((*METRICS, "scores.<task>.<metric>"))
        raise refuse(f"{key}.metric", "must name a metric of a record", claim.metric, f"choose from {known}")
    forms = claim.forms()
    if len(forms) != 1:
        raise refuse(key, f"must have exactly one of {', '.join(_FORMS)}", forms or "none", "split it into several")
    if (claim.worse is None) == (claim.better is not None):
        raise ConfigError(f"{key}.better and {key}.worse go together; give the setting that the other is compared with")
    for form in ("same", "ratio"):
        pair = getattr(claim, form)
        if pair is not None and len(pair) != 2:
            raise refuse(
                f"{key}.{form}", "must be a list of two settings", pair, f"try {form}: [{{KEY: A}}, {{KEY: B}}]"
            )
    _check_numbers(key, claim, forms[0])


def _check_numbers(key: str, claim: ClaimConfig, form: str) -> None:
    """Checks `margin` and `between`, which depend on the form. Raises `ConfigError`."""
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
