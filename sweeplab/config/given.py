"""What the command line or the experiment gives and the study does not read is refused."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import yaml

from sweeplab.config.conf import CONF
from sweeplab.config.schema import GROUPS, is_filled, is_set, key_names, linked, option_names, value_of
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import refuse, write_value

_OF_ACTIONS: Final = {  # keys that belong to some actions, whatever the study
    "output": ("plan", "watch", "list", "compare", "report", "run", "recommend"),
    "trial": ("export", "reproduce", "answers", "stop", "extend"),
    "extend.": ("extend",),
    "studies": ("compare",),
    "export.": ("export", "recommend"),
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
    _refuse_unread_data(config, given)


def refuse_given_deciders(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Raises `ConfigError` for the key that says which option it is, where a group's option has to be chosen instead:
    the other keys would remain those of another option.

    A class that no option has, such as another optimizer, can be named; so can the main scheme of a mixed base.
    """
    given = set(_given_keys(overrides))
    for name, group in GROUPS.items():
        key, section = f"{name}.{group.decider}", values.get(name)
        if key not in given or not isinstance(section, dict):
            continue
        value, kind = section.get(group.decider), group.kind_of(section)
        options = [option for option, decided in option_names(name).items() if decided == value]
        foreign = section.keys() - key_names(kind).keys() if kind is not None else set()
        if options and not section.get("pattern") and not any(f"{name}.{one}" in given for one in foreign):
            remedy = " or ".join(f"{name}={option}" for option in options[: 1 if value in options else 2])
            raise refuse(key, f"is set by {name}=OPTION", value, f"write {remedy}")


def refuse_code_of_files(config: TrialConfig, overrides: Sequence[str]) -> None:
    """Raises `ConfigError` where a file, and not who types the command, says that Python code of a user's may run, or
    that something is sent to an address."""
    asked, given = config.evaluation, _given_keys(overrides)
    typed = "must be typed: no experiment, axis or record may say that Python code"
    if asked.include_code and "evaluation.include_code" not in given:
        remedy = "add evaluation.include_code=true to the command line, or leave it out"
        raise refuse("evaluation.include_code", f"{typed} of a folder runs", "true", remedy)
    if asked.own_function is not None and "evaluation.score" not in given:
        remedy = f"add evaluation.score={asked.score} to the command line"
        raise refuse("evaluation.score", f"{typed} scores", asked.score, remedy)
    if asked.judge_url is not None and "evaluation.judge_url" not in given:
        rule = "must be typed: no experiment, axis or record may say where questions, answers and a key are sent"
        raise refuse("evaluation.judge_url", rule, asked.judge_url, "add it to the command line")
    if asked.judge_key_variable is not None and "evaluation.judge_key_variable" not in given:
        rule = "must be typed: no experiment, axis or record may say which variable is sent as a key"
        raise refuse("evaluation.judge_key_variable", rule, asked.judge_key_variable, "add it to the command line")


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
    """Keys whose place another one takes, and keys of something that is empty or another option's."""
    for key in given:
        value = value_of(config, key)
        other, needed = linked("unless").get(key), linked("needs").get(key)
        if other is not None and is_set(config, other) and value is not None:
            name, _, wanted = other.partition("=")
            remedy = "leave one of them out" if wanted else f"leave one of them out, or write {name}=null"
            raise refuse(key, f"has no effect while {name}={write_value(value_of(config, name))}", value, remedy)
        if needed is not None and not is_filled(config, needed) and value not in (None, False, {}):
            name, _, wanted = needed.partition("=")
            why = f"with {name}={write_value(value_of(config, name))}" if wanted else f"while {name} is empty"
            remedy = f"choose {needed.replace('|', ' or ')}" if wanted else f"give {name} too"
            raise refuse(key, f"has no effect {why}", value, f"{remedy}, or leave {key} out")


def _refuse_unread_data(config: StudyConfig, given: Sequence[str]) -> None:
    """What data propose and the study does not take. Raises `ConfigError`."""
    pairs = (
        ("data.objective", [config.data.objective], "study.objectives", config.study.objectives),
        ("data.tasks", config.data.tasks, "evaluation.tasks", config.evaluation.tasks),
    )
    for key, proposed, other, taken in pairs:
        if key in given and not set(proposed) <= set(taken):
            rule = f"has no effect while {other}=[{', '.join(taken)}]"
            raise refuse(key, rule, value_of(config, key), f"give {other} alone")
