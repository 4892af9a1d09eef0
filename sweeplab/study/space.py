"""What a study varies: axes over keys of conf or over whole groups."""

import itertools
import math
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeplab.config import AXIS_KEYS, ConfigError, refuse

Params = dict[str, Any]
Scalar = bool | int | float | str | None


class Axis(NamedTuple):
    """One varied key: listed choices, or a range with both ends included."""

    key: str
    choices: tuple[Scalar, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None

    def spec(self) -> dict[str, Any]:
        """The axis as conf spells it."""
        if self.choices is not None:
            return {"choices": list(self.choices)}
        spec = {"low": self.low, "high": self.high, "log": self.log or None, "step": self.step}
        return {name: value for name, value in spec.items() if value is not None}

    def distribution(self) -> BaseDistribution:
        """What Optuna draws from: whole numbers where both ends are."""
        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log, step=int(self.step or 1))
        assert self.low is not None
        assert self.high is not None
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def points(self) -> list[Scalar]:
        """Every value, for a grid. Raises `ConfigError` for a range without a step."""
        if self.choices is not None:
            return list(self.choices)
        assert self.low is not None
        assert self.high is not None
        if self.log or (self.step is None and not (isinstance(self.low, int) and isinstance(self.high, int))):
            raise ConfigError(
                f"space.{self.key} is a range, which sampler=grid cannot list; give choices or a step, or use "
                "sampler=tpe"
            )
        step = self.step or 1
        return [self.low + place * step for place in range(math.floor((self.high - self.low) / step + 1e-9) + 1)]


def axis(key: str, spec: dict[str, Any]) -> Axis:
    """The axis that `spec` spells. Raises `ConfigError` naming the key and the rule."""
    name = f"space.{key}"
    if "choices" in spec:
        choices = spec["choices"]
        if len(spec) > 1:
            raise refuse(name, "takes choices or a range, not both", spec, "keep one of them")
        if not isinstance(choices, list) or not choices or len(set(map(repr, choices))) != len(choices):
            raise refuse(f"{name}.choices", "must be a list of distinct values", choices, "try [4,8,16]")
        odd = [one for one in choices if not isinstance(one, Scalar)]
        if odd:
            raise refuse(f"{name}.choices", "must hold numbers, words, true, false or null", odd[0], "name a group")
        return Axis(key, tuple(choices))
    low, high, log, step = (spec.get(part) for part in ("low", "high", "log", "step"))
    numeric = [isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)]
    if not all(numeric) or not low < high:  # type: ignore[operator]
        raise refuse(name, "needs choices, or numbers low below high", spec, "try {low: 1e-5, high: 1e-2, log: true}")
    if log and (step is not None or not low > 0):  # type: ignore[operator]
        raise refuse(name, "with log=true needs low above 0 and no step", spec, "drop log, or the step")
    if step is not None and not (isinstance(step, int | float) and step > 0):
        raise refuse(f"{name}.step", "must be above 0", step, "drop it for a continuous range")
    return Axis(key, None, low, high, bool(log), step)


def axes(space: dict[str, Any], prefix: str = "") -> list[Axis]:
    """All axes of the `space` section, in its order. Raises `ConfigError`.

    A group can be an axis beside keys inside it, so a level may hold both an axis and further levels.
    """
    spec = {name: value for name, value in space.items() if name in AXIS_KEYS and not isinstance(value, dict)}
    found = [axis(prefix.removesuffix("."), spec)] if spec else []
    for name, value in space.items():
        if name in spec:
            continue
        if not isinstance(value, dict):
            raise refuse(f"space.{prefix}{name}", "must hold choices, or low and high", value, "try {choices: [4, 8]}")
        found += axes(value, f"{prefix}{name}.")
    return found


def grid(varied: list[Axis]) -> list[Params]:
    """Every combination; the last axis moves fastest. One empty point where nothing varies."""
    keys = [one.key for one in varied]
    return [dict(zip(keys, point, strict=True)) for point in itertools.product(*(one.points() for one in varied))]
