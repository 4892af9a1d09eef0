"""A user's own file as a task of lm-eval's: requests, items, standard errors and few-shot examples are lm-eval's."""

import json
from collections.abc import Callable
from importlib import import_module
from math import isfinite
from typing import Any, Final

from lm_eval.api.task import ConfigurableTask

from sweeplab.config.evaluation import OWN_TASK, EvaluationConfig
from sweeplab.config.json_schemas import read_schema
from sweeplab.config.own_items import Item, list_answers, module_path, read_items
from sweeplab.evaluation.answers import SCORERS, extract_answer, find_choice
from sweeplab.runtime.errors import describe_error_with_kind, refuse

_SPLIT: Final = "test"


class _Rows(list[Item]):
    """Items as lm-eval wants a split: a list that knows its fields. What `datasets` makes of JSON is not what it was:
    objects get the fields of all others."""

    @property
    def features(self) -> dict[str, None]:
        return dict.fromkeys(key for key in self[0] if all(key in item for item in self))


class OwnTask(ConfigurableTask):  # type: ignore[misc]
    """A task whose items may be conversations."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def fewshot_context(self, doc: Item, num_fewshot: int, **options: Any) -> Any:
        """The prompt; of messages what the chat template makes of them. Raises `ConfigError` for few-shot ones."""
        messages = doc.get("messages")
        if messages is None:
            return super().fewshot_context(doc, num_fewshot, **options)
        if num_fewshot:
            rule = "goes with question, not with messages"
            raise refuse("evaluation.num_fewshot", rule, num_fewshot, "write the examples into the messages")
        instruction = options.get("system_instruction")
        before = [] if instruction is None else [{"role": "system", "content": instruction}]
        return options["chat_template"]([*before, *messages], add_generation_prompt=True)


def make_own_task(asked: EvaluationConfig) -> dict[str, Any]:
    """lm-eval's configuration of the task `own`. Raises `ConfigError` for a function that cannot be had."""
    has_template, prompt = asked.apply_chat_template, asked.own_prompt

    def write_prompt(item: Item) -> str:
        question = str(item.get("question", ""))  # messages are not rendered by this
        return question if has_template else prompt.replace("{question}", question)

    common = {
        "class": OwnTask,
        "task": OWN_TASK,
        "custom_dataset": lambda **_: {_SPLIT: _Rows(read_items(asked))},
        "test_split": _SPLIT,
        "fewshot_config": {"split": _SPLIT},  # of all items but the one that is asked
        "doc_to_text": write_prompt,
        "target_delimiter": "",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in asked.own_metrics
        ],
        "metadata": {"version": 1.0},
    }
    if asked.score == "choice":
        return common | {
            "output_type": "multiple_choice",
            "doc_to_choice": lambda item: item["choices"],
            "doc_to_target": find_choice,
        }
    written = common | {
        "output_type": "generate_until",
        "doc_to_target": lambda item: _write_target(item, asked.score),
        "generation_kwargs": {"until": list(asked.stop), "max_gen_toks": asked.max_tokens, "do_sample": False},
    }
    return written | ({} if asked.score == "judge" else {"process_results": _make_scorer(asked)})


def _write_target(item: Item, score: str | None) -> str:
    """What a few-shot example and a record have as answer: the first one, or all of it where a schema describes it; a
    text, else JSON; nothing without one."""
    answers = [item.get("answer")] if score == "json" else list_answers(item)
    answer = answers[0] if answers else None
    if "choices" in item and isinstance(answer, int):
        answer = item["choices"][answer]
    return "" if answer is None else answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _make_scorer(asked: EvaluationConfig) -> Callable[[Item, list[str]], dict[str, float]]:
    (name,) = asked.own_metrics
    own = asked.own_function
    function = None if own is None else _import_function(*own)
    shared = {} if asked.schema_path is None else {"schema": read_schema(asked.schema_path)}

    def score(item: Item, responses: list[str]) -> dict[str, float]:
        response = extract_answer(responses[0], asked.extract)
        if function is None:
            return {name: SCORERS[str(asked.score)](response, {**item, **shared}, asked)}
        value = float(function(response, dict(item)))
        if not isfinite(value):
            raise ValueError(f"{asked.score} returned {value}, no number")
        return {name: value}

    return score


def _import_function(module: str, name: str) -> Callable[[str, Item], Any]:
    """Raises `ConfigError`."""
    typed = f"{module}:{name}"
    try:
        with module_path():
            found: Any = getattr(import_module(module), name, None)
    except Exception as error:  # the user's own code runs here
        rule = f"cannot be imported ({describe_error_with_kind(error)})"
        raise refuse("evaluation.score", rule, typed, "mend the module") from error
    if not callable(found):
        raise refuse("evaluation.score", "must name a function of the module", typed, "check its name")
    function: Callable[[str, Item], Any] = found
    return function
