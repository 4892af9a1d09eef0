"""The answer of a study as a file, `answer.json`: its schema, for programs that read it.

`python -m sweeplab.records.answer > docs/answer.schema.json`
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from sweeplab.records.json_schema import write_schema
from sweeplab.records.metrics import METRICS
from sweeplab.records.section import Section, key

ANSWER_VERSION: Final = 1


@dataclass(frozen=True)
class RaceStatement:
    """What a race says of its settings."""

    leader: dict[str, Any]  # params of the setting that leads
    bound: float | None  # what may be lost at most by it, in the objective's unit; None: nothing is known
    within: float  # what may be lost at most that was asked for
    certainty: float  # probability with which the statement is true
    num_open: int  # settings that may be better by more than `within`
    is_decided: bool


class Objective(Section):
    """The metric that decides which setting is best."""

    metric: str = key("name of the metric, as in study.objectives")
    direction: Literal["minimize", "maximize"] = key("which values are better")
    unit: str | None = key("unit of the metric; null: a number without one")


class Interval(Section):
    """A number with its interval."""

    value: float = key("the number")
    low: float | None = key("lower end; null: not known, or without end")
    high: float | None = key("upper end; null: not known, or without end")
    covers: str = key("what the interval covers: seeds, items, seeds and items, or nothing")


class AnswerSetting(Section):
    """A setting with its value of the objective."""

    params: dict[str, Any] = key("what the study varied, by dotted key")
    value: Interval = key("mean of the objective; the intervals of all settings hold at once")
    num_seeds: int = key("seeds that have a value")
    trials: list[int] = key("numbers of its trials")


class RunnerUp(AnswerSetting):
    """A setting that cannot be told from the leading one."""

    difference: Interval | None = key("this setting minus the leading one; null: not known")


class Dropped(Section):
    """A setting that is not a candidate, or runs of it that did not finish."""

    params: dict[str, Any] = key("what the study varied, by dotted key")
    outcome: str = key(
        "worse, constraint, or how runs ended: failed, diverged, out_of_memory, timed_out, pruned, skipped, stopped "
        "(by hand), refused"
    )
    trials: list[int] = key("numbers of the trials")
    reason: str | None = key("reason of the first of these trials, or the broken constraints; null: none is known")
    difference: Interval | None = key("of a worse one: this setting minus the leading one")


class Memory(Section):
    """Memory of the leading setting."""

    metric: str = key("what was measured")
    meaning: str = key("the same in words")
    peak_bytes: float = key("mean over seeds", unit="bytes")


class Time(Section):
    """Time, as the records have it."""

    step_seconds: float | None = key("a step of the leading setting alone, longest batch; mean over seeds", unit="s")
    training_seconds: float | None = key(
        "training of the leading setting; null where trials trained together", unit="s"
    )
    worker_seconds: float = key("all phases of all trials; trials that trained together count once", unit="s")


class AtEnd(Section):
    """The leading setting lies at an end of the values that were tried."""

    name: str = key("the dotted key")
    value: float = key("its value")
    end: Literal["smallest", "largest"] = key("which end it is; a better value may lie beyond")


class Uncovered(Section):
    """What a space allows and no finished trial had."""

    name: str = key("the dotted key")
    values: list[Any] = key("choices without a finished trial")
    below: list[float] | None = key("from the space's low to the smallest value of a finished trial")
    above: list[float] | None = key("from the largest value of a finished trial to the space's high")


class NotTried(Section):
    """Where a better setting may lie."""

    ends: list[AtEnd] = key("axes with a list of values on whose end the leading setting lies")
    uncovered: list[Uncovered] = key("choices and parts of ranges without a finished trial")


class StudyAnswer(Section):
    """The answer of a study. Numbers are those of the report, to ten digits; null: not known."""

    version: int = key("version of this schema; a reader refuses a larger one")
    study: str = key("name of the study")
    objective: Objective = key("what decides which setting is best")
    state: Literal["decided", "open", "finished", "running"] | None = key(
        "of a race: decided, or open where more seeds or a larger budget would tell; else finished or running; null: "
        "number of planned trials not known"
    )
    certainty: float = key("probability with which intervals and bound hold at any look")
    within: float | None = key("what may be lost at most that a race was asked for; null without a race")
    statement: str = key("the first line of the report")
    recommended: AnswerSetting | None = key("what to use; null where no setting is called the best")
    reason: str | None = key("why none is recommended; null where one is")
    leading: AnswerSetting | None = key("the best so far, recommended or not; null where settings cannot be compared")
    runner_ups: list[RunnerUp] = key("settings that cannot be told from the leading one, or of which nothing is known")
    bound: float | None = key(
        "what may be lost at most by the leading setting, in the objective's unit; null: not known"
    )
    on_fresh_seeds: list[float] = key(
        "values of a race's leading setting with seeds that had no part in choosing it; empty without any"
    )
    dropped: list[Dropped] = key("what was clearly worse, broke a constraint, or did not finish")
    memory: Memory | None = key("memory of the leading setting; null: not measured")
    time: Time = key("time of the leading setting and of the study")
    not_tried: NotTried = key("where a better setting may lie")
    warnings: list[str] = key("what the report says below its first line")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Further digits depend on the kind of processor; what a study varied stays as it is."""
        values: dict[str, Any] = super().to_dict()
        return {name: value if name == "not_tried" else _round(value) for name, value in values.items()}


def _round(value: Any) -> Any:
    """The value with ten digits of each number, those of `params` apart."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {name: one if name == "params" else _round(one) for name, one in value.items()}
    return [_round(one) for one in value] if isinstance(value, list) else value


def find_unit(metric: str) -> str | None:
    """The unit of a metric; None for a number without one."""
    known = METRICS.get(metric)
    return None if known is None or not known.unit else known.unit


def write_answer_schema() -> str:
    return write_schema(StudyAnswer)


if __name__ == "__main__":
    print(write_answer_schema(), end="")
