"""Groups settings whose values of a metric can be compared: held-out losses only on the same held-out text."""

import json
from typing import Any, Final

from sweeplab.records.record import StudyFacts
from sweeplab.records.stored import value_at
from sweeplab.report.evidence.settings import LOSS, Setting, label_setting, list_varied_keys

_TRAINING_ONLY: Final = (
    "fraction",
    "num_examples",
    "packing",
    "max_skipped",
)  # keys of data that do not change held-out examples
_BESIDE_A_FILE: Final = (
    "source",
    "path",
    "name",
    "subset",
    "split",
    "heldout_fraction",
    "num_heldout",
)  # nor these with a file
_GENERATED: Final = ("world", "digits")  # sources that read no file
_TASKS_ONLY: Final = ("tasks", "retained_tasks", "objective")  # keys of data that are not about examples
_LENGTH: Final = "training.max_length"
_WHOLE: Final = "no example cut"  # label of lengths that cut no held-out example


def group_comparable(facts: StudyFacts, settings: list[Setting], metric: str) -> dict[str, list[Setting]]:
    """Groups of settings whose values of the metric can be compared, by label; '' where all settings can be.

    A held-out loss can be compared only on the same held-out text. That depends on the data and, where examples are
    cut, on `training.max_length`. Where `data.heldout_path` is given, only that file counts, whatever the training
    data are. Scores of tasks can always be compared.
    """
    keys = list_varied_keys(facts, [one for setting in settings for one in setting.records])
    families: dict[str, list[Setting]] = {}
    labels: dict[str, str] = {}
    for setting, data in zip(settings, _read_heldout_data(settings), strict=True) if metric == LOSS else []:
        length = _find_cut_length(setting)
        text = [key for key in keys if _decides_heldout_data(key, setting) or (key == _LENGTH and length is not None)]
        varied = {key: setting.params[key] for key in text if key in setting.params and not (key == "data" and data)}
        on = json.dumps([data, length, varied], sort_keys=True, default=str)
        families.setdefault(on, []).append(setting)
        whole = _LENGTH in keys and not text
        labels.setdefault(on, _WHOLE if whole else label_setting(facts, setting.params, text or keys[:1]))
    if len(families) < 2:
        return {"": settings}
    alike = list(labels.values())
    return {
        f"{label}, data {index}" if alike.count(label) > 1 else label: families[on]
        for index, (on, label) in enumerate(labels.items())
    }


def _decides_heldout_data(key: str, setting: Setting) -> bool:
    """True for a varied key that changes the held-out examples."""
    section, _, name = key.partition(".")
    return section == "data" and name not in _list_training_only(setting.records[0].config.get("data"))


def _list_training_only(data: Any) -> set[str]:
    """Keys of `data` that do not change the held-out examples."""
    known = data if isinstance(data, dict) else {}
    beside = known.get("heldout_path") is not None and known.get("source") not in _GENERATED
    return {*_TRAINING_ONLY, *_TASKS_ONLY, *(_BESIDE_A_FILE if beside else ())}


def _find_cut_length(setting: Setting) -> int | None:
    """`training.max_length` where held-out examples were cut at it, else None.

    Older records count only training examples that were cut; these are then used instead.
    """
    for one in setting.records:
        if one.num_truncated if one.num_heldout_truncated is None else one.num_heldout_truncated:
            length = value_at(one.config, _LENGTH)
            return length if isinstance(length, int) else None
    return None


def _read_heldout_data(settings: list[Setting]) -> list[dict[str, Any]]:
    """The keys of `data` that determine the held-out examples, for each setting; only keys that all records have."""
    sections = [value for one in settings if isinstance(value := one.records[0].config.get("data"), dict)]
    if not sections or len(sections) < len(settings):
        return [{}] * len(settings)
    common = set.intersection(*map(set, sections))
    return [{name: data[name] for name in common - _list_training_only(data)} for data in sections]
