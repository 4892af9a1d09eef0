"""What a trial is scored on."""

import re
from typing import Any, Final, Literal, Self

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from sweeplab.config.data import ALPACA_WITHOUT_INPUT
from sweeplab.records.section import Section, Text, key
from sweeplab.runtime.addresses import is_safe_address
from sweeplab.runtime.errors import ConfigError, check_choice, mask_passwords, refuse

OWN_TASK: Final = "own"  # the name of the task that is made of evaluation.path
OWN_SCORES: Final[dict[str, tuple[str, ...]]] = {  # what it measures, by evaluation.score
    "exact": ("exact_match",),
    "number": ("acc",),
    "regex": ("acc",),
    "choice": ("acc", "acc_norm"),
    "choice_generated": ("acc",),
    "json": ("valid",),
    "f1": ("f1",),
    "rouge_l": ("rouge_l",),
    "judge": ("win_rate",),
}
PROMPTS: Final = {  # what training writes around a question, by data.style
    "plain": "{question}\n",
    "alpaca": ALPACA_WITHOUT_INPUT.format(instruction="{question}"),
    "chatml": "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n",
}
_FUNCTION: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_OWN_KEYS: Final = (
    "path",
    "score",
    "normalize",
    "tolerance",
    "extract",
    "schema_path",
    "prompt",
    "max_tokens",
    "stop",
    "judge_url",
    "judge_model",
    "judge_key_variable",
    "judge_reference",
)
_ADDED: Final = ("include_path", "include_code", *_OWN_KEYS)  # keys that earlier versions did not have


def _default_of(name: str) -> Any:
    return EvaluationConfig.model_fields[name].default


class EvaluationConfig(Section):
    """What a trial is scored on, beside the held-out loss."""

    tasks: list[Text] = key("lm-eval's tasks or sweeplab's own; []: the held-out loss alone")
    rung_tasks: list[Text] = key(
        "those of evaluation.tasks that are also scored during training, every training.heldout_interval steps", []
    )
    batch_size: int = key("examples in one forward pass", ge=1, unit="rows", remedy="use a whole number from 1")
    limit: int | None = key(
        "largest number of items to score of each task; null: all",
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
        "task -> the field that groups its items: those with the same value, such as questions about one passage, are "
        "not independent",
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
    path: Text | None = key(
        "the file of the task `own`: JSON lines with question (or messages) and answer",
        None,
        needs="evaluation.tasks",
    )
    score: Text | None = key(
        f"how a response to an item of evaluation.path is scored: {', '.join(OWN_SCORES)}, or MODULE:FUNCTION of "
        "yours, which only the command line may name",
        None,
        needs="evaluation.path",
    )
    normalize: bool = key(
        "with score exact or choice_generated: compare without case, punctuation, articles and further blanks",
        False,
        needs="evaluation.path",
    )
    tolerance: float = key(
        "largest difference from the answer's number", 0.0, needs="evaluation.score=number", ge=0, remedy="try 0.01"
    )
    extract: Text | None = key(
        "a regular expression; only its last match in a response that is not blank, or that match's first group that "
        "holds something, is scored; null: all of it",
        None,
        needs="evaluation.path",
        unless="evaluation.score=choice",
    )
    schema_path: Text | None = key(
        "a JSON schema for all items; null: each has its own in the field schema", None, needs="evaluation.score=json"
    )
    prompt: Text | None = key(
        f"text before the answer, with {{question}} in it, or a style of data.style: {', '.join(PROMPTS)}",
        None,
        needs="evaluation.path",
        unless="evaluation.apply_chat_template=true",
    )
    max_tokens: int | None = key(
        "largest length of a response to an item of evaluation.path",
        None,
        needs="evaluation.path",
        unless="evaluation.score=choice",
        ge=1,
        unit="tokens",
        remedy="try 64",
    )
    stop: list[Text] = key(
        "texts at which a response to an item of evaluation.path ends",
        [],
        needs="evaluation.path",
        unless="evaluation.score=choice",
    )
    judge_url: Text | None = key(
        "an OpenAI-compatible address, such as https://HOST/v1, that questions and responses are sent to; "
        "read only from the command line",
        None,
        needs="evaluation.score=judge",
    )
    judge_model: Text | None = key("the judge's name at that address", None, needs="evaluation.score=judge")
    judge_key_variable: Text | None = key(
        "the environment variable that holds the address's key, which is never written down; null: it needs none",
        None,
        needs="evaluation.score=judge",
    )
    judge_reference: Literal["base", "answer"] = key(
        "what a response is compared with; base: the base's response; answer: the answer in evaluation.path",
        "base",
        needs="evaluation.score=judge",
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

    @model_validator(mode="after")
    def _check_own(self) -> Self:
        if OWN_TASK in self.tasks and (self.path is None or self.score is None):
            name = "path" if self.path is None else "score"
            raise ConfigError(
                f"evaluation.{name} is missing; choose evaluation=own, and give a file of JSON lines with question and "
                "answer: evaluation.path=FILE"
            )
        if self.path is not None and OWN_TASK not in self.tasks:
            rule = f"has no effect while evaluation.tasks=[{', '.join(self.tasks)}] lacks {OWN_TASK}"
            raise refuse("evaluation.path", rule, self.path, f"add {OWN_TASK} to the tasks")
        if self.score is not None and self.own_function is None:
            check_choice("evaluation.score", self.score, (*OWN_SCORES, "MODULE:FUNCTION"))
        if self.normalize and self.score not in ("exact", "choice_generated"):
            rule = f"has no effect with evaluation.score={self.score}"
            raise refuse("evaluation.normalize", rule, "true", "use false, or score=exact or choice_generated")
        self._check_prompt()
        if self.score == "judge":
            self._check_judge()
        return self

    def _check_judge(self) -> None:
        """Raises `ConfigError`."""
        for name, value, remedy in (
            ("judge_url", self.judge_url, "give an OpenAI-compatible address: evaluation.judge_url=https://HOST/v1"),
            ("judge_model", self.judge_model, "give the judge's name there: evaluation.judge_model=NAME"),
        ):
            if value is None:
                raise ConfigError(f"evaluation.{name} is missing; {remedy}")
        if not is_safe_address(str(self.judge_url)):
            rule = "must be an address that begins with https://, or on this machine http://, without password or query"
            raise refuse("evaluation.judge_url", rule, mask_passwords(str(self.judge_url)), "try https://HOST/v1")
        if OWN_TASK in self.rung_tasks:
            rule = f"must leave out {OWN_TASK} with evaluation.score=judge, which would be asked at every step of them"
            raise refuse("evaluation.rung_tasks", rule, f"[{', '.join(self.rung_tasks)}]", f"drop {OWN_TASK}")

    def _check_prompt(self) -> None:
        """Raises `ConfigError`."""
        if self.path is None or self.apply_chat_template:
            return
        if self.prompt == "template":
            raise ConfigError(
                "evaluation.prompt=template, as data.style, is the tokenizer's chat template; add "
                "evaluation.apply_chat_template=true, or give a text with {question}"
            )
        if self.prompt is not None and "{question}" not in self.own_prompt:
            remedy = f"give one, or choose from {', '.join(PROMPTS)}"
            raise refuse("evaluation.prompt", "must be a text with {question}", self.prompt, remedy)

    @property
    def own_prompt(self) -> str:
        """What an item's question becomes, with {question} in its place."""
        return PROMPTS.get(self.prompt or "plain", self.prompt or "")

    @property
    def own_function(self) -> tuple[str, str] | None:
        """Module and function that score the task `own`; None for a score of `OWN_SCORES`."""
        found = _FUNCTION.fullmatch(self.score or "")
        return None if found is None else (found[1], found[2])

    @property
    def own_metrics(self) -> tuple[str, ...]:
        """What the task `own` measures."""
        return OWN_SCORES.get(self.score or "", ("score",))
