"""What a trial is scored on."""

from typing import Any, Final, Self

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from sweeplab.records.section import Section, Text, key
from sweeplab.runtime.errors import check_choice

_ADDED: Final = ("include_path", "include_code")  # keys that earlier versions did not have


def _default_of(name: str) -> Any:
    return EvaluationConfig.model_fields[name].default


class EvaluationConfig(Section):
    """What a trial is scored on, beside the held-out loss."""

    tasks: list[Text] = key("lm-eval's tasks or sweeplab's own; none: the held-out loss alone")
    rung_tasks: list[Text] = key(
        "those of evaluation.tasks that are also scored during training, every training.heldout_interval steps", []
    )
    batch_size: int = key("examples in one forward pass", ge=1, unit="rows", remedy="use a whole number from 1")
    limit: int | None = key(
        "largest number of items that each task is scored on; null: all",
        None,
        needs="evaluation.tasks",
        ge=1,
        unit="items",
        remedy="use null for all items",
    )
    limit_seed: int | None = key(
        "random seed of the items that evaluation.limit keeps, the same for all trials; null: the first items, as "
        "lm-eval does",
        None,
        needs="evaluation.limit",
        ge=0,
        remedy="use a whole number from 0, or null for the first items",
    )
    clusters: dict[Text, Text] = key(
        "by task, the field of its items whose value items of one cluster share, such as a passage that several "
        "questions are about",
        {},
        needs="evaluation.tasks",
    )
    num_fewshot: int | None = key(
        "solved examples before each question; null: as the task says",
        None,
        needs="evaluation.tasks",
        ge=0,
        remedy="use null for the task's own",
    )
    bootstrap_iters: int = key(
        "resamples, for standard errors without a closed form", needs="evaluation.tasks", ge=1, remedy="try 1000"
    )
    data_dir: Text | None = key(
        "a folder with the tasks' data as JSON lines; null: from the hub", None, needs="evaluation.tasks"
    )
    include_path: Text | None = key(
        "a folder with further tasks in lm-eval's YAML, as its --include_path; null: none",
        None,
        needs="evaluation.tasks",
    )
    include_code: bool = key(
        "run the Python functions that evaluation.include_path names; read only from the command line",
        False,
        needs="evaluation.include_path",
    )
    gen_kwargs: dict[str, Any] = key(
        "arguments of text generation; they replace the task's own", {}, needs="evaluation.tasks"
    )
    apply_chat_template: bool = key("put the tokenizer's chat template around every prompt", needs="evaluation.tasks")
    system_instruction: Text | None = key("text before every prompt", None, needs="evaluation.tasks")

    @model_validator(mode="before")
    @classmethod
    def _drop_idle_seed(cls, values: Any) -> Any:
        """Conf's seed says nothing without a limit; a study without one stays what it was before there was the key."""
        if isinstance(values, dict) and values.get("limit") is None and values.get("limit_seed") == 0:
            return {**values, "limit_seed": None}
        return values

    @model_serializer(mode="wrap")
    def _leave_out_idle(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that say nothing: a study that needs none of them stays what it was before there were any."""
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name not in _ADDED or value != _default_of(name)}

    @model_validator(mode="after")
    def _check_rungs(self) -> Self:
        for task in self.rung_tasks:
            check_choice("evaluation.rung_tasks", task, tuple(self.tasks))
        return self
