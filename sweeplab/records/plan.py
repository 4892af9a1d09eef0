"""A plan as a file, `plan.json`: its schema, for programs that read it.

`python -m sweeplab.records.plan > docs/plan.schema.json`
"""

from typing import Any, Final, Literal

from sweeplab.records.json_schema import write_schema
from sweeplab.records.section import Section, key

PLAN_VERSION: Final = 1


class PlannedData(Section):
    """What the training examples of a setting are."""

    num_examples: int | None = key("training examples; null: the hub's data, not looked at")
    longest: int = key("longest example, or row of packed ones; an upper bound where not measured", unit="tokens")
    mean: float = key("mean length; an upper bound where not measured", unit="tokens")
    most_targets: int = key("most tokens of one example that the loss counts", unit="tokens")
    num_truncated: int | None = key("examples cut at training.max_length; null: not measured")
    measured: bool = key("false: every example is taken as training.max_length tokens")
    num_learned: int = key("held-out examples of a file that are training examples, too")
    num_naming_special: int = key("examples whose text names special tokens, which stay text")
    num_skipped: int | None = key("records that teach nothing; null: no file of records, or it is on the hub")
    notes: list[str] = key("what a reader must know of the data and the chat template")
    longest_example: int = key("longest example that shares a row with others", unit="tokens")
    target_share: float = key("share of the tokens that the loss counts; 1 where not measured")
    heldout_tokens: int | None = key("tokens of all held-out examples; null: not measured", unit="tokens")
    num_heldout: int | None = key("held-out examples; null: not known")


class PlannedDevice(Section):
    """Where a setting is planned for."""

    kind: Literal["cpu", "cuda"] = key("kind of the device")
    present: bool = key("false: there is none on this machine, so that no time is predicted")
    dtype: str = key("number format of the arithmetic")


class PlannedTask(Section):
    """What one task asks of the base for each trial."""

    task: str = key("name of the task")
    num_items: int = key("items")
    num_tokens: int = key("tokens that the base reads, padding included", unit="tokens")
    num_steps: int = key("tokens written, a batch's as one, where responses are as long as the right answers")
    most_steps: int = key("the same where responses are as long as the task lets them be")


class PlannedParts(Section):
    """Seconds of what the study does, one after another as one worker would."""

    start: float = key("starting Python in each worker", unit="s")
    load: float = key("loading bases", unit="s")
    prepare: float = key("reading the tasks' items and making tokens of them", unit="s")
    bases: float = key("held-out losses and tasks of all bases", unit="s")
    profile: float = key("measuring before trials share a pass", unit="s")
    training: float = key("training of all trials", unit="s")
    heldout: float = key("held-out losses of all trials", unit="s")
    tasks: float = key("tasks of all trials", unit="s")


class PlannedSetting(Section):
    """One setting: its point of the space, or the configured one where a sampler draws."""

    params: dict[str, Any] = key("what the study varies, by dotted key")
    num_seeds: int = key("trials of this setting")
    fit: Literal["fits", "does not fit", "uncertain"] | None = key(
        "whether it fits plan.device_memory; null without one"
    )
    alone: str | None = key("why it must train alone; null: others may train beside it on the same base")
    model: str = key("name of the model")
    num_total_params: int = key("parameters of the base")
    num_trainable_params: int = key("parameters that are trained")
    base_bits_per_param: float = key("all weights, scales and zeros of the base over its parameters", unit="bits")
    peak_memory_bytes: int = key("peak of training, alone", unit="bytes")
    peak_moment: str = key("moment of training at which the peak stands")
    memory: dict[str, int] = key("parts of that peak, by name", unit="bytes")
    moments: dict[str, dict[str, int]] = key("parts of the memory at each moment of a trial", unit="bytes")
    needed_memory_bytes: int = key("the most of any phase, with what stands beside the peak", unit="bytes")
    num_steps: int | None = key("optimizer steps; null: not known")
    train_seconds: float | None = key("training, alone; null: not known", unit="s")
    heldout_seconds: float | None = key("all its measurements of the held-out loss; null: not known", unit="s")
    tasks: list[PlannedTask] | None = key("what its tasks ask, each; null: not known")
    task_seconds: float | None = key("all its tasks, those during training included; null: not known", unit="s")
    base_seconds: float | None = key("held-out loss and tasks of the base, once; null: not known", unit="s")
    profile_seconds: float | None = key(
        "measuring its layout, where it trains beside others; null: not known", unit="s"
    )
    load_seconds: float | None = key("loading the base, once for each worker; null: not known", unit="s")
    probed_flops_per_second: float | None = key("speed of a matrix product that was measured; null: none was")
    data: PlannedData = key("its training examples")
    device: PlannedDevice = key("where it is planned for")


class StudyPlan(Section):
    """What a study would run, and what that takes. Nothing was trained; null: not known."""

    version: int = key("version of this schema; a reader refuses a larger one")
    study: str = key("name of the study")
    model: str = key("name of the configured model")
    num_total_params: int = key("parameters of the first setting's base")
    num_trials: int = key("trials in all; of a race, the most that there may be")
    train_seconds: float | None = key("training of all trials, one after another; null: not known", unit="s")
    study_seconds: float | None = key(
        "the study on the wall, with the workers of this machine; null: not known", unit="s"
    )
    study_parts: PlannedParts | None = key("what those seconds go into; null: not known")
    study_may_end_early: bool = key(
        "true: patience, a pruner or a limit may end trials early, so that it is at most this"
    )
    device_memory_bytes: int | None = key("plan.device_memory; null: none was given", unit="bytes")
    sampler: str = key("how settings are chosen")
    space: dict[str, dict[str, Any]] = key("what varies: choices, or low and high, by dotted key")
    assumptions: list[str] = key("what the numbers assume and leave out, in sentences")
    rows: list[PlannedSetting] = key("every setting; the configured point where a sampler draws")


def write_plan_schema() -> str:
    return write_schema(StudyPlan)


if __name__ == "__main__":
    print(write_plan_schema(), end="")
