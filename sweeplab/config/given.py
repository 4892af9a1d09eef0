"""What the command line or the experiment gives and the study does not read is refused."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml

from sweeplab.config.conf import CONF
from sweeplab.config.schema import linked, value_of
from sweeplab.config.study import StudyConfig
from sweeplab.runtime.errors import ConfigError, refuse

_OF_ACTIONS: Final = {  # keys that belong to some actions, whatever the study
    "trial": ("export", "reproduce"),
    "studies": ("compare",),
    "export.": ("export",),
    "watch.": ("watch",),
    "compare.": ("compare",),
}


def refuse_idle_keys(config: StudyConfig, overrides: Sequence[str]) -> None:
    """Raises `ConfigError` for a key that is given and moves nothing.

    Conf's own defaults are not given. What an experiment gives may be replaced by the command line.
    """
    given = _given_keys(overrides)
    _refuse_other_actions(config, given)
    _refuse_replaced(config, given)
    experiment = _experiment_keys(overrides)
    _refuse_replaced(config, [key for key in experiment if linked("unless").get(key) in experiment])
    _refuse_export(config, given)


def _given_keys(overrides: Iterable[str]) -> list[str]:
    """Keys that are set; what is taken away or chosen as a group is not among them."""
    return [one.lstrip("+").partition("=")[0] for one in overrides if "=" in one and not one.startswith("~")]


def _experiment_keys(overrides: Iterable[str]) -> dict[str, Any]:
    """The values of the chosen experiment's file by dotted key; of a section, not of the space."""
    chosen = [one.lstrip("+").partition("=")[2] for one in overrides if one.lstrip("+").startswith("experiment=")]
    path = CONF / "experiment" / f"{chosen[-1]}.yaml" if chosen else None
    if path is None or not path.is_file():
        return {}
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    sections = {name: value for name, value in values.items() if isinstance(value, dict) and name != "space"}
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}


def _refuse_other_actions(config: StudyConfig, given: Iterable[str]) -> None:
    for key in given:
        for begin, actions in _OF_ACTIONS.items():
            if (key == begin or (begin.endswith(".") and key.startswith(begin))) and config.action not in actions:
                value = value_of(config, key)
                rule = f"has no effect with action={config.action}"
                raise refuse(key, rule, value, f"choose action={actions[0]}, or leave {key} out")


def _refuse_replaced(config: StudyConfig, given: Iterable[str]) -> None:
    """Keys whose place another one takes, and keys of something that is empty."""
    for key in given:
        other = linked("unless").get(key)
        if other is not None and value_of(config, other) is not None and value_of(config, key) is not None:
            raise refuse(
                key,
                f"has no effect while {other}={value_of(config, other)}",
                value_of(config, key),
                f"leave one of them out, or write {other}=null",
            )
        needed = linked("needs").get(key)
        if needed is not None and not value_of(config, needed) and value_of(config, key) not in (None, False, {}):
            rule = f"has no effect while {needed} is empty"
            raise refuse(key, rule, value_of(config, key), f"name some in {needed}, or leave {key} out")


def _refuse_export(config: StudyConfig, given: Sequence[str]) -> None:
    if config.action != "export":
        return
    if "export.dtype" in given and config.export.kind != "merged":
        raise refuse(
            "export.dtype",
            f"has no effect with export.kind={config.export.kind}",
            config.export.dtype,
            "choose export.kind=merged, or leave it out",
        )
    if "export.combination" in given and not config.export.trials:
        raise ConfigError(
            f"export.combination={config.export.combination} has no effect on one trial; give several: "
            "export.trials=[0,1], or leave it out"
        )
