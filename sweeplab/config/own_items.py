"""A user's own file of questions and answers: each line checked for what its score reads, before anything is loaded."""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NoReturn

from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.json_schemas import check_schema, read_schema
from sweeplab.runtime.errors import ConfigError, describe_error, refuse
from sweeplab.runtime.paths import expand_home
from sweeplab.runtime.text_files import parse_json, read_text

Item = dict[str, Any]

_ROLES: Final = ("system", "user", "assistant")
_TO_MEND: Final = "mend the line"
_NO_PATTERN: Final = (re.error, OverflowError, RecursionError)  # what Python raises for a pattern
_Refuse = Callable[[str, str, str], NoReturn]  # field, rule, remedy


def check_own(asked: EvaluationConfig) -> None:
    """Raises `ConfigError` where the file, or what its score needs beside it, cannot be used."""
    if asked.path is None:
        return
    if not expand_home(asked.path).is_file():
        raise refuse("evaluation.path", "must be a file", asked.path, "check the path")
    if asked.extract is not None:
        try:
            re.compile(asked.extract)
        except _NO_PATTERN as error:
            rule = f"must be a regular expression ({describe_error(error)})"
            raise refuse("evaluation.extract", rule, asked.extract, "try '#### (.*)'") from error
    if asked.schema_path is not None:
        read_schema(asked.schema_path)
    if asked.own_function is not None:
        find_module(asked.own_function[0])
    items = read_items(asked)
    if asked.num_fewshot:
        _check_examples(items, asked, asked.num_fewshot)


def _check_examples(items: list[Item], asked: EvaluationConfig, number: int) -> None:
    """Raises `ConfigError` where there are no `number` solved examples for each item."""
    if asked.score == "regex":
        rule = "goes with answers that can be shown, and a regular expression is none"
        raise refuse("evaluation.num_fewshot", rule, number, "write the examples into evaluation.prompt")
    for place, item in enumerate(items, 1):
        if item.get("answer") in (None, []) and "messages" not in item:
            rule = "shows the answers of other items"
            remedy = f"give item {place} of evaluation.path an answer, or write the examples into evaluation.prompt"
            raise refuse("evaluation.num_fewshot", rule, number, remedy)
    most = len(items) - max(Counter(json.dumps(item, sort_keys=True) for item in items).values())
    if number > most:
        rule = f"must be at most {most}, the items of evaluation.path other than the one that is asked"
        raise refuse("evaluation.num_fewshot", rule, number, "lower it, or add items")


def find_module(name: str) -> Path | None:
    """The file of a module on Python's path, or in the folder of the command. Raises `ConfigError`."""
    with module_path():
        try:
            found = find_spec(name)
        except (ImportError, ValueError):
            found = None
    if found is None:
        rule = "must name a module that Python finds from here"
        raise refuse("evaluation.score", rule, name, "check MODULE:FUNCTION; a file score.py is the module score")
    return None if found.origin is None or not Path(found.origin).is_file() else Path(found.origin)


@contextmanager
def module_path() -> Iterator[None]:
    """Within it Python looks for modules in the folder of the command, too."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def read_items(asked: EvaluationConfig) -> list[Item]:
    """The lines of `evaluation.path`. Raises `ConfigError` for the first mistake: file, line, field and remedy."""
    assert asked.path is not None
    path = expand_home(asked.path)
    try:
        stamp = path.stat()
    except OSError as error:
        raise refuse("evaluation.path", "must be a file", asked.path, "check the path") from error
    has_schema, score = asked.schema_path is not None, asked.score or ""
    if score == "judge" and asked.judge_reference == "answer":
        score = "exact"  # a text is compared with
    return _read_items(path, score, has_schema, asked.apply_chat_template, stamp.st_mtime_ns, stamp.st_size)


@cache
def _read_items(path: Path, score: str, has_schema: bool, has_template: bool, *stamp: int) -> list[Item]:
    """`stamp`: the file's time and size, so that a changed one is read again."""
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        rule = f"cannot be read as UTF-8 or UTF-16 text: {error}"
        raise ConfigError(f"evaluation.path: {path} {rule}; save it in UTF-8") from error
    items = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            items.append(_read_item(line, f"evaluation.path: {path}, line {number}"))
            _check_item(items[-1], f"evaluation.path: {path}, line {number}", score, has_schema, has_template)
    if not items:
        raise ConfigError(f"evaluation.path: {path} is empty; write one object with question and answer a line")
    return items


def _read_item(line: str, where: str) -> Item:
    try:
        item = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: is not valid JSON ({describe_error(error)}); write one object a line") from error
    if not isinstance(item, dict):
        raise ConfigError(f"{where}: must be an object with question and answer; {_TO_MEND}")
    return item


def _check_item(item: Item, where: str, score: str, has_schema: bool, has_template: bool) -> None:
    def refuse_field(field: str, rule: str, remedy: str) -> NoReturn:
        raise ConfigError(f"{where}: field '{field}' {rule}; {remedy}")

    _check_question(item, has_template, refuse_field)
    if score == "json":
        _check_item_schema(item, has_schema, refuse_field)
    elif score != "judge" and ":" not in score:
        _check_answer(item, score, refuse_field)
    if score.startswith("choice"):
        _check_choices(item, refuse_field)


def _check_question(item: Item, has_template: bool, refuse_field: _Refuse) -> None:
    messages, question = item.get("messages"), item.get("question")
    if messages is None:
        if not isinstance(question, str) or not question.strip():
            refuse_field("question", "must be a text", "give one, or messages")
        return
    if question is not None:
        refuse_field("question", "stands beside messages", "keep one of the two")
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        form = f"must be a list of messages, each with a role ({', '.join(_ROLES)}) and a text as content"
        refuse_field("messages", form, _TO_MEND)
    if messages[-1]["role"] != "user":
        refuse_field("messages", "must end with one of the user", "put the wanted answer in the field answer")
    if not has_template:
        rule = "needs the tokenizer's chat template"
        refuse_field("messages", rule, "add evaluation.apply_chat_template=true, or write the prompt as question")


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.keys() == {"role", "content"}
        and message["role"] in _ROLES
        and isinstance(message["content"], str)
    )


def list_answers(item: Item) -> list[Any]:
    """The accepted answers, of which one has to be met."""
    answer = item.get("answer")
    return answer if isinstance(answer, list) else [answer]


def _check_answer(item: Item, score: str, refuse_field: _Refuse) -> None:
    if "answer" not in item:
        refuse_field("answer", "is missing", "give the right answer, or a list of those that count")
    answers = list_answers(item)
    is_text = all(isinstance(one, str) and one.strip() for one in answers)
    if score == "number" and not (answers and all(map(_is_number, answers))):
        refuse_field("answer", "must be a number, or a list of them", "write it without a unit: 12.5")
    if score in ("exact", "regex", "f1", "rouge_l") and not (answers and is_text):
        rule = "must be a text, or a list of them"
        refuse_field("answer", rule, "put it in quotes; for numbers there is evaluation.score=number")
    for one in answers if score == "regex" else ():
        try:
            re.compile(one)
        except _NO_PATTERN as error:
            rule = f"is no regular expression ({describe_error(error)})"
            refuse_field("answer", rule, "mend it; in JSON a backslash is written twice")
    if score == "rouge_l" and not all(re.search("[a-z0-9]", one.lower()) for one in answers):
        refuse_field("answer", "has none of a-z and 0-9, which are all that rouge-score reads", "use score=f1")


def _is_number(value: Any) -> bool:
    """True for a finite number, and for a text that is one."""
    if isinstance(value, str):
        return re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", value.strip()) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and value - value == 0


def _check_choices(item: Item, refuse_field: _Refuse) -> None:
    choices: Any = item.get("choices")
    answer = item.get("answer")
    is_list = isinstance(choices, list) and all(isinstance(one, str) and one.strip() for one in choices)
    if not is_list or len(set(choices)) < max(2, len(choices)):
        refuse_field("choices", "must be a list of two or more different texts", "give the answers to choose from")
    is_place = isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices)
    if not is_place and (not isinstance(answer, str) or answer not in choices):
        refuse_field("answer", "must be one of choices, or its place counted from 0", _TO_MEND)


def _check_item_schema(item: Item, has_schema: bool, refuse_field: _Refuse) -> None:
    schema = item.get("schema")
    if (schema is None) != has_schema:
        rule = "is missing" if schema is None else "stands beside evaluation.schema_path"
        refuse_field("schema", rule, "give a JSON schema in every line, or one with evaluation.schema_path=FILE")
    if schema is not None:
        try:
            check_schema(schema)
        except (ValueError, RecursionError) as error:
            refuse_field("schema", f"is no JSON schema ({describe_error(error)})", "mend it")
