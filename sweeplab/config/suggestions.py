"""The keys of the configuration, and which of them a user most likely meant."""

import re
import shlex
from difflib import get_close_matches
from typing import Final, get_args

from sweeplab.config.adapter import TOGGLES
from sweeplab.config.schema import holds, schema_keys

_SIMILAR: Final = 0.6  # of two names, as difflib measures it; below, a suggestion misleads
_NUM_NAMED: Final = 3  # keys in a refusal
_ROUND: Final = re.compile(r"\((.*)\)")
_DECIMAL_COMMA: Final = re.compile(r"-?0,\d+")
_SIMILAR_IN_ALL: Final = 0.8  # of two keys with their sections, which have those in common
OTHER_NAMES: Final = {  # what PEFT, transformers and bitsandbytes say -> what is said here
    **dict.fromkeys(("lr", "learning_rate"), "optimizer.lr"),
    **dict.fromkeys(("r", "lora_r", "lora_rank"), "adapter.rank"),
    **dict.fromkeys(("batch_size", "per_device_train_batch_size"), "training.micro_batch_size"),
    **dict.fromkeys(("num_epochs", "num_train_epochs"), "training.epochs"),
    **dict.fromkeys(("max_seq_length", "max_seq_len", "cutoff_len"), "training.max_length"),
    "gradient_accumulation_steps": "training.accumulation",
    "max_grad_norm": "training.gradient_clip",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "seed": "study.seeds",
    "4bit": "nf4_dq",
    "8bit": "int8",
}
_TARGETS: Final = ("targets", "target_modules", "modules")
EVERY_KEY: Final = "`python -m sweeplab --help all` lists them all"
_EVERY_TOGGLE: Final = ", ".join(f"adapter.lora_{toggle}" for toggle in TOGGLES)


def _take_last_part(key: str) -> str:
    return key.rpartition(".")[2]


def find_nearest_keys(key: str) -> list[str]:
    """At most three keys that a user may have meant, the likeliest first."""
    name, there = _take_last_part(key), list(schema_keys())
    first = find_meant_key(key)
    if first is not None and (name in OTHER_NAMES or _take_last_part(first) == name):
        return [first]
    lasts = list(dict.fromkeys(_take_last_part(one) for one in there if "." in one))
    alike = get_close_matches(name, lasts, _NUM_NAMED, _SIMILAR)
    others = [one for last in alike for one in there if _take_last_part(one) == last and "." in one]
    return list(dict.fromkeys([*([first] if first else []), *others]))[:_NUM_NAMED]


def find_similar(name: str, there: list[str], least: float = _SIMILAR) -> list[str]:
    """The nearest one, if any is near."""
    return get_close_matches(name, there, 1, least)


def find_meant_key(key: str) -> str | None:
    """The key that is nearest: by another project's name, beside it, in another section, or in all; None: none is."""
    name, there = _take_last_part(key), list(schema_keys())
    if key in there:
        return key
    if OTHER_NAMES.get(name) in there:
        return OTHER_NAMES[name]
    section = key.rpartition(".")[0]
    beside = find_similar(name, [_take_last_part(one) for one in there if one.rpartition(".")[0] == section])
    if beside:
        return f"{section}.{beside[0]}".lstrip(".")
    elsewhere = [one for one in there if one.rpartition(".")[0] != section]
    deep = [one for one in elsewhere if one.count(".") == key.count(".")]
    found = find_similar(key, [one for one in elsewhere if _take_last_part(one) == name], 0) or find_similar(
        key, deep, _SIMILAR_IN_ALL
    )
    return found[0] if found else None


def describe_unknown_key(key: str, value: str | None = None) -> str:
    """The refusal of a key that no option has, with the nearest ones; with what to type where its value is known."""
    wrong = f"{key} is no key of the configuration"
    if _take_last_part(key) in _TARGETS:
        return f"{wrong}; {EVERY_KEY}; switch matrices on with {_EVERY_TOGGLE}"
    first, *others = [*find_nearest_keys(key), None][:_NUM_NAMED]
    if first is None:
        return f"{wrong}; {EVERY_KEY}"
    named = [one for one in others if one is not None]
    near = f"; near it: {', '.join(named)}" if named else ""
    section = first.partition(".")[0]
    return f"{wrong}{near}; `python -m sweeplab --help {section}` lists those of {section}; {_propose(first, value)}"


def describe_another_unknown_key(key: str, value: str) -> str:
    """What follows the refusal of one key where another is none either."""
    nearest = find_nearest_keys(key)
    return f"nor is {key}" + (f", {_propose(nearest[0], value)}" if nearest else "")


def _propose(key: str, value: str | None) -> str:
    if value is None:
        return f"did you mean {key}?"
    return f"type {shlex.quote(f'{key}={fit_value(key, value)}')}"


def fit_value(key: str, value: str) -> str:
    """The value of another key as this one takes it."""
    value = mend_value(key, value)
    return f"[{value}]" if holds(key, list) and not value.startswith("[") else value


def mend_value(key: str, value: str) -> str:
    """The value as its key takes it: a list in square brackets, a number with a point; else as it is.

    An axis's choices are a list, too.
    """
    round_brackets = _ROUND.fullmatch(value)
    if round_brackets and (holds(key, list) or (key.startswith("space.") and key.endswith(".choices"))):
        return f"[{round_brackets[1]}]"
    return value.replace(",", ".") if _DECIMAL_COMMA.fullmatch(value) and _is_number(key) else value


def _is_number(key: str) -> bool:
    """True where a single fraction is wanted, so that 0,001 is no list of two values."""
    field = schema_keys().get(key)
    return field is not None and float in (field.annotation, *get_args(field.annotation))
