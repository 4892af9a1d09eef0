"""Claims of an experiment as data: a sentence, its source, and the condition on the records that would support it."""

import hashlib
import json
from typing import Any, Final

from pydantic import ValidationError

from sweeplab.records.metrics import METRICS, known_metric
from sweeplab.records.section import Section, key
from sweeplab.runtime.errors import ConfigError, refuse

_FORMS: Final = ("better", "same", "rises_with", "falls_with", "ratio", "value", "every")


class ClaimConfig(Section):
    """A sentence that the records of a study support, contradict or leave open. Exactly one form must be given.

    A setting is a point of the space by key. Where it names some of the keys only, the mean of all settings with these
    values counts.
    """

    words: str = key("the claim as a reader would say it", "")
    source: str = key("who said it", "")
    metric: str = key("the metric of a record that it is about: heldout_loss_nats_per_token, scores.TASK.METRIC", "")
    better: dict[str, Any] | None = key("form: this setting, such as {adapter.rank: 64}, is better than worse", None)
    worse: dict[str, Any] | None = key("the setting that better is compared with", None)
    same: list[dict[str, Any]] | None = key("form: two settings that differ by less than margin", None)
    rises_with: str | None = key("form: the metric rises along this axis, from each value to the next", None)
    falls_with: str | None = key("form: the metric falls along this axis, from each value to the next", None)
    ratio: list[dict[str, Any]] | None = key(
        "form: the metric of the first of two settings over that of the second lies in the range between", None
    )
    value: dict[str, Any] | None = key("form: the metric of this setting lies in the range between", None)
    every: dict[str, Any] | None = key(
        "form: the metric of every setting that this names lies in the range between; {}: of all", None
    )
    margin: float = key(
        "smallest difference that counts, for better, same, rises_with and falls_with",
        0.0,
        unit="the metric's unit",
        rule="must be a number from 0",
        remedy="give it in the metric's unit",
    )
    between: list[int | float | None] | None = key(
        "lowest and highest value for ratio, value and every; null: no limit, such as [null, 0.9]", None
    )
    exploratory: bool = key("judged for itself, without correction for the other claims, and marked so", False)
    published: float | None = key("the source's own figure: a difference, a ratio or a value, as the form has it", None)

    def forms(self) -> list[str]:
        """The forms that are given; `check_form` makes sure that there is exactly one."""
        return [form for form in _FORMS if getattr(self, form) is not None]

    def settings(self) -> list[dict[str, Any]]:
        """Every setting that the claim names, in the order of the effect: first minus second, or first over second."""
        named = [self.better, self.worse, *(self.same or []), *(self.ratio or []), self.value, self.every]
        return [setting for setting in named if setting is not None]

    def axis(self) -> str | None:
        return self.rises_with if self.rises_with is not None else self.falls_with


def fingerprint_claim(claim: ClaimConfig) -> str:
    """16 hexadecimal digits of the whole claim. A record has those of the study's claims at its time."""
    text = json.dumps(claim.model_dump(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def claim_from_dict(name: str, values: Any) -> ClaimConfig:
    """The claim that `model_dump` wrote. Raises `ValueError` that names an unknown field or one of another type."""
    try:
        return ClaimConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, (name, *first["loc"])))
        raise ValueError(f"{field} is malformed: {first['msg']}") from error


def check_form(name: str, claim: ClaimConfig) -> None:
    """Checks that a claim has words, source, metric, and one form with what it needs. Raises `ConfigError`."""
    for part in ("words", "source", "metric"):
        if getattr(claim, part) in ("???", ""):
            raise ConfigError(f"{name}.{part} is missing; a claim has words, a source and a metric")
    if not known_metric(claim.metric):
        known = ", ".join((*METRICS, "scores.<task>.<metric>"))
        raise refuse(f"{name}.metric", "must name a metric of a record", claim.metric, f"choose from {known}")
    forms = claim.forms()
    if len(forms) != 1:
        raise refuse(name, f"must have exactly one of {', '.join(_FORMS)}", forms or "none", "split it into several")
    if (claim.worse is None) == (claim.better is not None):
        raise ConfigError(
            f"{name}.better and {name}.worse go together; give the setting that the other is compared with"
        )
    for form in ("same", "ratio"):
        pair = getattr(claim, form)
        if pair is not None and len(pair) != 2:
            raise refuse(
                f"{name}.{form}", "must be a list of two settings", pair, f"try {form}: [{{KEY: A}}, {{KEY: B}}]"
            )
    _check_numbers(name, claim, forms[0])


def _check_numbers(name: str, claim: ClaimConfig, form: str) -> None:
    """Checks `margin` and `between`, which depend on the form. Raises `ConfigError`."""
    if claim.margin < 0:
        raise refuse(f"{name}.margin", "must be a number from 0", claim.margin, "give it in the metric's unit")
    if form == "same" and claim.margin == 0:
        raise refuse(f"{name}.margin", "must be above 0 for `same`", claim.margin, "say how large a difference is none")
    ranged = form in ("ratio", "value", "every")
    if not ranged and claim.between is not None:
        raise refuse(f"{name}.between", f"does not go with {form}", claim.between, "use margin")
    if not ranged:
        return
    if claim.margin:
        raise refuse(f"{name}.margin", f"does not go with {form}", claim.margin, "use between")
    ends = claim.between
    rule = "must be two numbers, the lower first, null for no end"
    if ends is None or len(ends) != 2 or all(end is None for end in ends):
        raise refuse(f"{name}.between", rule, ends, "try [0.6, 0.7] or [null, 0.9]")
    low, high = ends
    if low is not None and high is not None and not low < high:
        raise refuse(f"{name}.between", rule, ends, "try [0.6, 0.7] or [null, 0.9]")
