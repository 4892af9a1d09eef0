"""Which settings' values of a metric can be compared: held-out losses only on the same held-out text."""

import json
from typing import Any, Final

from sweeplab.records.record import StudyFacts
from sweeplab.records.typed import value_at
from sweeplab.report.evidence.settings import LOSS, Setting, setting_label, varied_keys

TRAINING_ONLY: Final = ("fraction", "num_examples", "packing")  # of the data: the held-out examples stay the same
BESIDE_A_FILE: Final = ("source", "path", "name", "subset", "split", "heldout_fraction")  # what only training has then
MADE_HERE: Final = ("world", "digits")  # sources that read no file
ASKED_ONLY: Final = ("tasks", "retained_tasks", "objective")  # of the data: no examples at all
LENGTH: Final = "training.max_length"
WHOLE: Final = "no example cut"  # of lengths, those that are long enough


def by_meaning(facts: StudyFacts, settings: list[Setting], metric: str) -> dict[str, list[Setting]]:
    """Settings whose values of the metric mean the same, by what tells them apart; all under '' where all do.

    A held-out loss is that of the data's held-out examples, as they are cut at `training.max_length`: other data, or
    another length where examples are cut, have another one, of other texts, whatever was learned. Where a file of
    held-out examples is named, it alone is measured on, whatever file is trained on. A score means the same whatever
    was trained on.
    """
    keys = varied_keys(facts, [one for setting in settings for one in setting.records])
    families: dict[str, list[Setting]] = {}
    labels: dict[str, str] = {}
    for setting, data in zip(settings, heldout_data(settings), strict=True) if metric == LOSS else []:
        length = cut_length(setting)
        told = [key for key in keys if tells(key, setting) or (key == LENGTH and length is not None)]
        varied = {key: setting.params[key] for key in told if key in setting.params and not (key == "data" and data)}
        on = json.dumps([data, length, varied], sort_keys=True, default=str)
        families.setdefault(on, []).append(setting)
        whole = LENGTH in keys and not told
        labels.setdefault(on, WHOLE if whole else setting_label(facts, setting.params, told or keys[:1]))
    if len(families) < 2:
        return {"": settings}
    alike = list(labels.values())
    return {
        f"{label}, data {place}" if alike.count(label) > 1 else label: families[on]
        for place, (on, label) in enumerate(labels.items())
    }


def tells(key: str, setting: Setting) -> bool:
    """True for a varied key that says which held-out examples the setting is measured on."""
    section, _, name = key.partition(".")
    return section == "data" and name not in training_only(setting.records[0].config.get("data"))


def training_only(data: Any) -> set[str]:
    """Names of `data` that leave the held-out examples as they are."""
    known = data if isinstance(data, dict) else {}
    beside = known.get("heldout_path") is not None and known.get("source") not in MADE_HERE
    return {*TRAINING_ONLY, *ASKED_ONLY, *(BESIDE_A_FILE if beside else ())}


def cut_length(setting: Setting) -> int | None:
    """`training.max_length` where held-out examples were cut there, None where all are whole.

    Earlier records say that of training examples only, which then stand for both.
    """
    for one in setting.records:
        if one.num_truncated if one.num_heldout_truncated is None else one.num_heldout_truncated:
            length = value_at(one.config, LENGTH)
            return length if isinstance(length, int) else None
    return None


def heldout_data(settings: list[Setting]) -> list[dict[str, Any]]:
    """What the settings' records say of the held-out examples, as far as all of them do."""
    said = [value for one in settings if isinstance(value := one.records[0].config.get("data"), dict)]
    if not said or len(said) < len(settings):
        return [{}] * len(settings)
    common = set.intersection(*map(set, said))
    return [{name: data[name] for name in common - training_only(data)} for data in said]
