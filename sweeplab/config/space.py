"""What a study varies: axes over keys of conf or over whole groups."""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeplab.config.schema import OF_A_TRIAL
from sweeplab.config.study import AXIS_KEYS
from sweeplab.records.stored import is_number
from sweeplab.runtime.errors import ConfigError, refuse, write_value

_MOST_POINTS: Final = 2000  # of a space that is listed
Params = dict[str, Any]
Scalar = bool | int | float | str | None


def to_plain_numbers(params: Params) -> Params:
    """Whole numbers as such: 1.0, which YAML and JSON may make of 1, is the same value."""
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in params.items()
    }


def identify_params(params: Params) -> str:
    """A text that is equal for equal settings, whether a number was written as 1 or as 1.0."""
    return repr(sorted(to_plain_numbers(params).items()))


class Axis(NamedTuple):
    """One varied key: listed choices, or a range with both ends included; drawn only where `when` holds."""

    key: str
    choices: tuple[Scalar, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    when: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()  # earlier axes, and the values of theirs that it goes with
    begin: int | None = None  # how many of the choices a race begins with; None: all of them

    def spec(self) -> dict[str, Any]:
        """The axis as conf spells it."""
        when = {key: values[0] if len(values) == 1 else list(values) for key, values in self.when} or None
        choices = None if self.choices is None else list(self.choices)
        spec = {"choices": choices, "low": self.low, "high": self.high, "log": self.log or None, "step": self.step}
        spec["begin"] = self.begin
        return {name: value for name, value in {**spec, "when": when}.items() if value is not None}

    def describe(self) -> str:
        """The values in words, such as `4, 8` or `0.001 to 0.1 (log)`, and what they go with."""
        if self.choices is not None:
            text = ", ".join(map(write_value, self.choices))
        else:
            step = f" by {self.step}" if self.step is not None else ""
            text = f"{self.low} to {self.high}{step}{' (log)' if self.log else ''}"
        where = (f"{key} is {' or '.join(map(write_value, values))}" for key, values in self.when)
        return f"{text} where {' and '.join(where)}" if self.when else text

    def active(self, params: Params) -> bool:
        """True where the axis is drawn beside `params`; an axis whose condition was not drawn itself is not."""
        return all(key in params and params[key] in values for key, values in self.when)

    def holds(self, value: object) -> bool:
        """True for a value that the axis can take; between steps there is none, but for rounding."""
        if self.choices is not None:
            return value in self.choices
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:  # type: ignore[operator]
            return False
        return math.isclose(value, float(self.exact(value)), rel_tol=1e-9, abs_tol=1e-12)  # type: ignore[arg-type]

    def exact(self, value: Any) -> Scalar:
        """A value that the axis holds as conf spells it; samplers give 0.30000000000000004 for three steps of 0.1."""
        if self.choices is not None:
            return self.choices[self.choices.index(value)]
        if self.step is None and not self.whole():
            return float(value)
        return self.value(round((Decimal(str(value)) - Decimal(str(self.low))) / Decimal(str(self.step or 1))))

    def whole(self) -> bool:
        """True for a range of whole numbers: both ends are, and the step if there is one."""
        return all(isinstance(number, int) for number in (self.low, self.high, 1 if self.step is None else self.step))

    def value(self, place: int) -> float:
        """low + place * step in decimal arithmetic, so that steps of 0.1 give 0.3 and not 0.30000000000000004."""
        exact = Decimal(str(self.low)) + place * Decimal(str(self.step or 1))
        return int(exact) if self.whole() else float(exact)

    def last_place(self) -> int:
        """Steps from low to the last value that is not above high."""
        low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step or 1))
        return int((high - low) // step)

    def distribution(self) -> BaseDistribution:
        """What Optuna draws from; a range ends at its last step, since Optuna warns where it has to cut it itself."""
        if self.choices is not None:
            return CategoricalDistribution(self.choices)
        assert self.low is not None
        assert self.high is not None
        high = self.high if self.step is None else self.value(self.last_place())
        if self.whole():
            return IntDistribution(int(self.low), int(high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, high, log=self.log, step=self.step)

    def points(self) -> list[Scalar]:
        """Every value, for a grid. Raises `ConfigError` for a range without a step."""
        if self.choices is not None:
            return list(self.choices)
        if self.log or (self.step is None and not self.whole()):
            raise ConfigError(
                f"space.{self.key} is a range, which sampler=grid and sampler=brute_force cannot list; give choices or "
                "a step, or use sampler=tpe"
            )
        _refuse_endless(self.last_place() + 1)
        return [self.value(place) for place in range(self.last_place() + 1)]


def _refuse_endless(num_points: int) -> None:
    """Raises `ConfigError` for more points than anybody would run: each is composed and checked before any runs."""
    if num_points > _MOST_POINTS:
        raise ConfigError(
            f"space has at least {num_points} points, and at most {_MOST_POINTS} can be listed; give fewer choices, or "
            "larger steps, or use sampler=tpe"
        )


def _check_choices(name: str, choices: Any) -> None:
    """Raises `ConfigError`. Values are distinct as Optuna compares them: 1 equals 1.0 and true."""
    rule = "must be a list of distinct values"
    if not isinstance(choices, list) or not choices:
        raise refuse(name, rule, choices, "try [4,8,16]")
    odd = [one for one in choices if not isinstance(one, Scalar)]
    if odd:
        raise refuse(name, "must hold numbers, words, true, false or null", odd[0], "name a group")
    if any(isinstance(one, float) and not math.isfinite(one) for one in choices):
        raise refuse(name, "must be finite", choices, "drop what is not")
    if len(set(choices)) != len(choices):
        raise refuse(name, rule, choices, "drop what stands twice")


def _check_range(name: str, spec: dict[str, Any]) -> None:
    """Raises `ConfigError`."""
    low, high, log, step = (spec.get(part) for part in ("low", "high", "log", "step"))
    if not (is_number(low) and is_number(high) and low < high):
        raise refuse(name, "needs choices, or numbers low below high", spec, "try {low: 1e-5, high: 1e-2, log: true}")
    if not math.isfinite(high - low):
        raise refuse(name, "must be finite", spec, "try {low: 1e-5, high: 1e-2, log: true}")
    if not isinstance(log, bool | None):
        raise refuse(f"{name}.log", "must be true or false", log, "try log: true")
    if log and (step is not None or not low > 0):
        raise refuse(name, "with log=true needs low above 0 and no step", spec, "raise low, or drop the step or log")
    if step is not None and not (isinstance(step, int | float) and 0 < step < math.inf):
        raise refuse(f"{name}.step", "must be above 0", step, "drop it for a continuous range")


def flatten_keys(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values: conf may nest them or not."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flatten_keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _conditions(name: str, when: Any) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
    """What `when` spells: earlier axes, each with one value or a list of them. Raises `ConfigError`."""
    if not isinstance(when, dict) or not when:
        raise refuse(f"{name}.when", "must hold axes and their values", when, "try when: {optimizer: sgd}")
    found = {key: value if isinstance(value, list) else [value] for key, value in flatten_keys(when)}
    for key, values in found.items():
        _check_choices(f"{name}.when.{key}", values)
    return tuple((key, tuple(values)) for key, values in found.items())


def axis(key: str, spec: dict[str, Any]) -> Axis:
    """The axis that `spec` spells. Raises `ConfigError` naming the key and the rule."""
    name = f"space.{key}"
    section = key.partition(".")[0]
    if section not in OF_A_TRIAL:
        raise refuse(
            name, f"must vary a part of a trial ({', '.join(OF_A_TRIAL)})", section, "drop it, or mend the name"
        )
    when = _conditions(name, spec["when"]) if "when" in spec else ()
    spec = {part: value for part, value in spec.items() if part != "when"}
    if "choices" in spec:
        begin = spec.get("begin")
        if spec.keys() - {"choices", "begin"}:
            raise refuse(name, "takes choices or a range, not both", spec, "keep one of them")
        _check_choices(f"{name}.choices", spec["choices"])
        if begin is not None and (type(begin) is not int or begin < 1):
            raise refuse(f"{name}.begin", "must be a whole number above 0", begin, "try begin: 1")
        return Axis(key, tuple(spec["choices"]), begin=begin, when=when)
    if "begin" in spec:
        raise refuse(f"{name}.begin", "goes with choices, of which it is a part", spec["begin"], "drop it")
    _check_range(name, spec)
    return Axis(key, None, spec["low"], spec["high"], bool(spec.get("log")), spec.get("step"), when)


def _spelled_axes(space: dict[str, Any], prefix: str = "") -> list[Axis]:
    """All axes below `prefix`, in their order. Raises `ConfigError`.

    A group can be an axis beside keys inside it, so a level may hold both an axis and further levels.
    """
    spec = {name: value for name, value in space.items() if name in AXIS_KEYS and not isinstance(value, dict)}
    if spec and "when" in space:
        spec["when"] = space["when"]
    found = [axis(prefix.removesuffix("."), spec)] if spec else []
    for name, value in space.items():
        if name in spec:
            continue
        if not isinstance(value, dict):
            raise refuse(f"space.{prefix}{name}", "must hold choices, or low and high", value, "try {choices: [4, 8]}")
        found += _spelled_axes(value, f"{prefix}{name}.")
    return found


def axes(space: dict[str, Any]) -> list[Axis]:
    """All axes of the `space` section, in its order. Raises `ConfigError`, also for a condition that cannot hold."""
    found = _spelled_axes(space)
    for place, one in enumerate(found):
        earlier = {other.key: other for other in found[:place]}
        for key, values in one.when:
            if key not in earlier:
                there = ", ".join(earlier) or "none"
                raise refuse(f"space.{one.key}.when", f"may name only an axis above it ({there})", key, "reorder space")
            for value in values:
                if not earlier[key].holds(value):
                    raise refuse(f"space.{one.key}.when.{key}", "must be a value of that axis", value, "drop it")
    return found


def list_begin(varied: list[Axis]) -> list[Axis]:
    """The axes as a race begins with them: the first choices of those with `begin`."""
    return [one._replace(choices=one.choices[: one.begin]) if one.choices is not None else one for one in varied]


def fits(params: Params, varied: list[Axis]) -> bool:
    """True where `params` hold a value for each axis that is active beside them, and nothing else."""
    wanted = {one.key for one in varied if one.active(params)}
    return params.keys() == wanted and all(one.holds(params[one.key]) for one in varied if one.key in wanted)


def grid(varied: list[Axis]) -> list[Params]:
    """Every combination; the last axis moves fastest. One empty point where nothing varies."""
    points: list[Params] = [{}]
    for one in varied:
        values = one.points()
        _refuse_endless(len(points) * len(values))
        points = [
            extended
            for point in points
            for extended in ([{**point, one.key: value} for value in values] if one.active(point) else [point])
        ]
    return points
