"""The whole configuration of a study, composed by Hydra from conf and checked here."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import WithJsonSchema

from sweeplab.config.actions import CompareConfig, ExportConfig, ExtendConfig, PlanConfig, WatchConfig
from sweeplab.config.executor import AnyExecutor
from sweeplab.config.sampler import AnyPruner, AnySampler
from sweeplab.config.tracking import AnyTracking
from sweeplab.config.trial import TrialConfig
from sweeplab.records.claim import ClaimConfig
from sweeplab.records.section import Section, Text, key


class AxisConfig(Section):
    """How one key, or a group, varies: choices, or numbers from low to high."""

    choices: list[Any] | None = key("the values to try; for a group, names of its options", None)
    low: float | None = key("the smallest number", None)
    high: float | None = key("the largest number", None)
    log: bool = key("draw the logarithm evenly, so that 1e-4 to 1e-3 is as likely as 1e-3 to 1e-2", False)
    step: float | None = key(
        "distance between two values, counted from low; null: any number between low and high", None, gt=0
    )
    begin: int | None = key(
        "number of choices that a race begins with, the first ones; another joins when the leader is beside it; null: "
        "all",
        None,
        ge=1,
    )
    when: dict[str, Any] | None = key(
        "vary this key only where a key listed before it has this value, such as {optimizer: sgd}", None
    )


class BoundConfig(Section):
    """What a constraint allows."""

    max: float | None = key("the largest value that is allowed", None)
    min: float | None = key("the smallest value that is allowed", None)


_MOST_OF_A_RACE: Final = 10  # seeds
AXIS_KEYS: Final = tuple(AxisConfig.model_fields)
_SEEDS_SCHEMA: Final[dict[str, Any]] = {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}


class StudySection(Section):
    """What the study is, beside its trials."""

    name: Text | None = key(
        "name of the study and of its folders in runs_dir and reports_dir; null: the experiment's name", None
    )
    question: Text | None = key("the question that the study answers; the report shows it", None)
    seeds: Annotated[list[int], WithJsonSchema(_SEEDS_SCHEMA)] = key(
        "random seeds; every setting is trained once with each; null: [0, 1] where settings are compared (a space or "
        "study.enqueue), since one seed decides nothing, else [0]; sampler=race and finals use as many of them as they "
        "need, null: 0 to 9",
        rule="must be distinct whole numbers",
        remedy="try study.seeds=[0,1,2]",
    )
    num_trials: int | None = key(
        "trials in total, seeds included; null: every point of a grid",
        None,
        ge=1,
        remedy="use null for every point of a grid",
    )
    objectives: list[Text] = key(
        "metrics to optimize, as a record names them; the first one decides which setting is best"
    )
    within: float | None = key(
        "a race ends when no setting can be better than the one it names by more than this; null: 0.02 for a held-out "
        "loss or a share",
        None,
        gt=0,
        unit="the first objective's unit",
        remedy="try study.within=0.02",
        needs="sampler.name=race|finals",
    )
    certainty: float = key(
        "probability that what the race says is true, however often one looks",
        gt=0.5,
        lt=1,
        remedy="try study.certainty=0.95",
        needs="sampler.name=race|finals",
    )
    fresh_seeds: int = key(
        "number of seeds after those of study.seeds with which the setting that the race names is trained again; its "
        "value is then taken from these alone, since the best of many is partly best by chance",
        ge=0,
        remedy="try study.fresh_seeds=2",
        needs="sampler.name=race|finals",
    )
    budget: Text | None = key(
        "time for the whole study, earlier runs included, such as 20min, 2h or 90s; no trial begins that would not end "
        "within it; null: no limit",
        None,
    )
    budget_tokens: float | None = key(
        "training tokens of all trials together, after which no further trial begins; null: no limit",
        None,
        gt=0,
        remedy="try study.budget_tokens=1e6",
    )
    max_failures: int | None = key(
        "failed trials in a row, after which the study stops; null: it goes on", None, ge=1, remedy="use null to go on"
    )
    retry: Literal["failed"] | None = key(
        "failed: trials that failed or timed out run once more, as after a fault outside the study; null: they stay",
        None,
    )
    constraints: dict[str, Any] = key(
        "metric of a record -> the largest or smallest value that is allowed; samplers avoid settings beyond it"
    )
    enqueue: list[Any] = key(
        "settings to try first: values, such as {adapter.rank: 8}, or names of published recipes, such as qlora"
    )
    warm_start: Text | None = key(
        "a study in runs_dir whose finished trials the sampler learns from, too; action=recommend begins with rates "
        "around its best one",
        None,
    )
    runs_dir: Text = key("folder in which each study has its own folder")
    reports_dir: Text = key("folder in which each study has a folder with its report")


class StudyConfig(TrialConfig):
    """Everything that the command line asks for."""

    action: Literal[
        "run",
        "recommend",
        "plan",
        "watch",
        "stop",
        "extend",
        "list",
        "answers",
        "export",
        "reproduce",
        "analyze",
        "report",
        "compare",
    ] = key("what to do with the study")
    output: Literal["text", "json"] = key(
        "json: what plan, watch, list, compare, report and a finished run print is JSON for programs, and nothing else "
        "goes to stdout; --json says the same"
    )
    trial: int | Literal["best"] | None = key(
        "number of the trial, for export, reproduce, answers, stop, extend (adds a seed to its setting); best, "
        "for export and answers: the best seed of the setting that leads",
        None,
    )
    studies: list[Text] = key("names of studies, to be compared", [])
    study: StudySection = key("the study")
    space: dict[str, Any] = key("what varies: a key or a group -> the values to try, as choices or as low and high", {})
    claims: list[ClaimConfig] = key("sentences that the records support, contradict or leave open", [])
    sampler: AnySampler = key("how the next setting is chosen")
    pruner: AnyPruner = key("which trials are stopped before their end")
    executor: AnyExecutor = key("where trials run, and how many at once")
    tracking: AnyTracking = key("where the progress of trials is shown")
    export: ExportConfig = key("what action=export writes")
    plan: PlanConfig = key("memory that trials must fit in")
    watch: WatchConfig = key("what action=watch shows")
    extend: ExtendConfig = key("what action=extend adds")
    compare: CompareConfig = key("what action=compare accepts")

    def trial_config(self) -> TrialConfig:
        """The part that a trial is made of."""
        return TrialConfig.model_construct(**{name: getattr(self, name) for name in TrialConfig.model_fields})


def choose_seeds(space: Any, enqueue: Any, sampler: Any) -> list[int]:
    """Seeds of a study that names none: two where settings are compared, since one seed decides nothing.

    A race takes of ten as many as it needs.
    """
    if sampler in ("race", "finals"):
        return list(range(_MOST_OF_A_RACE))
    return [0, 1] if space or enqueue else [0]


def study_folder(config: StudyConfig) -> Path:
    return Path(config.study.runs_dir) / str(config.study.name)
