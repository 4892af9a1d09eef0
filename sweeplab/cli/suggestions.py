"""The keys of the configuration, and which of them a user most likely meant."""

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, get_origin

from omegaconf import OmegaConf

from sweeplab.config.adapter import TOGGLES
from sweeplab.config.compose import CONF, options
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial import TrialConfig

_SIMILAR: Final = 0.6  # of two names, as difflib measures it; below, a suggestion misleads
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
_EVERY_TOGGLE: Final = ", ".join(f"adapter.lora_{toggle}" for toggle in TOGGLES)


def take_last_part(key: str) -> str:
    return key.rpartition(".")[2]


@cache
def _list_schema_keys() -> dict[str, "Field[Any]"]:
    """Every key by its dotted name, a section before what is in it."""

    def within(section: Any, prefix: str) -> Iterator[tuple[str, "Field[Any]"]]:
        for one in fields(section):
            yield f"{prefix}{one.name}", one
            if is_dataclass(one.default_factory):
                yield from within(one.default_factory, f"{prefix}{one.name}.")

    return dict(within(StudyConfig, ""))


@cache
def list_optimizer_keys() -> dict[str, list[str]]:
    """What optimizers of conf set, each with their names; the schema leaves a section's content to them."""
    owners: dict[str, list[str]] = {}
    for name in options("optimizer"):
        for key in OmegaConf.load(CONF / "optimizer" / f"{name}.yaml"):
            owners.setdefault(str(key), []).append(name)
    return owners


def list_neighbors(key: str) -> list[str]:
    """What stands beside `key` in the schema; nothing for a section without one."""
    section = key.rpartition(".")[0]
    return [one for one in _list_schema_keys() if one.rpartition(".")[0] == section]


def is_list(key: str) -> bool:
    return key in _list_schema_keys() and get_origin(_list_schema_keys()[key].type) is list


def is_section(key: str) -> bool:
    return key in _list_schema_keys() and is_dataclass(_list_schema_keys()[key].default_factory)


def is_trial_key(key: str) -> bool:
    """True for what a space can vary."""
    return key.partition(".")[0] in {one.name for one in fields(TrialConfig)}


def find_similar(name: str, there: list[str], least: float = _SIMILAR) -> list[str]:
    """The nearest one, if any is near."""
    return get_close_matches(name, there, 1, least)


def find_meant_key(key: str) -> str | None:
    """The key that is nearest: by another project's name, beside it, in another section, or in all; None: none is."""
    name, there = take_last_part(key), [*_list_schema_keys(), *(f"optimizer.{one}" for one in list_optimizer_keys())]
    if key in there:
        return key
    if OTHER_NAMES.get(name) in there:
        return OTHER_NAMES[name]
    section = key.rpartition(".")[0]
    beside = find_similar(name, [take_last_part(one) for one in there if one.rpartition(".")[0] == section])
    if beside:
        return f"{section}.{beside[0]}".lstrip(".")
    elsewhere = [one for one in there if one.rpartition(".")[0] != section]
    deep = [one for one in elsewhere if one.count(".") == key.count(".")]
    found = find_similar(key, [one for one in elsewhere if take_last_part(one) == name], 0) or find_similar(
        key, deep, _SIMILAR_IN_ALL
    )
    return found[0] if found else None


def suggest_key(key: str) -> str:
    """How a refusal of a key goes on; empty where nothing is near."""
    if take_last_part(key) in _TARGETS:
        return f"; switch matrices on with {_EVERY_TOGGLE}"
    found = find_meant_key(key)
    return f"; did you mean {found}?" if found is not None else ""
