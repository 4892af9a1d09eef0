"""What an experiment claims, in data: a sentence, who said it, and what of the records would bear it out."""

from dataclasses import dataclass
from typing import Any, Final

from omegaconf import MISSING

FORMS: Final = ("better", "same", "rises_with", "falls_with", "ratio", "value", "every")


@dataclass
class ClaimConfig:
    """One sentence that the study's records support, contradict or leave open; exactly one form of it.

    A setting is a point of the space or a part of one, by key; of a part, the mean of all its settings counts.
    """

    words: str = MISSING  # the claim as a reader would say it
    source: str = MISSING  # who said it
    metric: str = MISSING  # of a record
    better: dict[str, Any] | None = None  # this setting is better than `worse`, by more than `margin`
    worse: dict[str, Any] | None = None
    same: list[dict[str, Any]] | None = None  # these two differ by less than `margin`
    rises_with: str | None = None  # the metric rises along this axis, by more than `margin` from value to value
    falls_with: str | None = None  # it falls
    ratio: list[dict[str, Any]] | None = None  # the first setting's value over the second's is in `between`
    value: dict[str, Any] | None = None  # this setting's value is in `between`
    every: dict[str, Any] | None = None  # that of every setting that this names is; {}: of all
    margin: float = 0.0  # in the metric's unit
    between: list[float | None] | None = None  # lowest and highest, null for no end
    published: float | None = None  # the source's figure: a difference, a ratio or a value, as the form has it

    def forms(self) -> list[str]:
        """The forms that are given; `checks` holds that there is one."""
        return [form for form in FORMS if getattr(self, form) is not None]

    def settings(self) -> list[dict[str, Any]]:
        """Every setting that is named, in the order of the effect: the first minus, or over, the second."""
        named = [self.better, self.worse, *(self.same or []), *(self.ratio or []), self.value, self.every]
        return [setting for setting in named if setting is not None]

    def axis(self) -> str | None:
        return self.rises_with if self.rises_with is not None else self.falls_with
