"""What configurations of before a key mean, so that their trials run again as they did, and their studies go on."""

from collections.abc import Mapping
from typing import Any, Final

_OF_RECORDS: Final = ("json", "hub", "mixture")  # sources of data
_FORMER_FIELDS: Final = {"instruction_field": "instruction", "input_field": "input", "output_field": "output"}
_TRAINING: Final = {"keep": "last", "patience": None}
_LIMIT: Final = "max_skipped"  # decides only whether a trial is refused


def fill_later_keys(section: str, values: Any) -> Any:
    """A section of a trial with the keys that were not there when it was written.

    Any number of responses was cut off at max_length, and of a conversation the last answer was learned. All steps were
    taken, and the last one's weights kept.
    """
    if section == "training" and isinstance(values, dict):
        return _TRAINING | values
    if section != "data" or not isinstance(values, dict) or values.get("source") not in _OF_RECORDS:
        return values
    has_conversations = values.get("messages_field") is not None
    return {_LIMIT: 1.0, "targets": "last" if has_conversations else "all", **values}


def make_comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's plain configuration for comparing it with an earlier one: without what changes no number.

    Fields that are all called as conf called them, before they were known by themselves, are as if they were not named.
    """
    config = {name: fill_later_keys(name, section) for name, section in config.items()}
    data = config.get("data")
    if not isinstance(data, dict) or data.get("source") not in _OF_RECORDS:
        return config
    kept = {key: value for key, value in data.items() if key != _LIMIT}
    if all(kept.get(key) in (None, former) for key, former in _FORMER_FIELDS.items()):
        kept |= dict.fromkeys(_FORMER_FIELDS)
    return {**config, "data": kept}
