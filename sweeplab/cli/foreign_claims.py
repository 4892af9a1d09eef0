"""A committed experiment on another model or data: its question and claims are about its own, and are left out."""

from collections.abc import Sequence
from typing import Any, Final

import yaml

from sweeplab.config.conf import CONF, default_options

_SUBJECTS: Final = ("model", "data")  # what claims are about


def leave_out_foreign_claims(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The overrides without the question and the claims of an experiment that runs on another model or data than it
    names, and a sentence on it; None where nothing is left out. What the user gives stays."""
    given = {key: value for key, _, value in (one.lstrip("+~").partition("=") for one in arguments)}
    name = given.get("experiment")
    path = CONF / "experiment" / f"{name}.yaml"
    if "claims" in given or not given.keys() & {*_SUBJECTS} or not path.is_file():
        return list(arguments), None
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    others = [group for group, own in _name_subjects(values).items() if given.get(group, own) != own]
    if not values.get("claims") or not others:
        return list(arguments), None
    question = [] if "study.question" in given else ["study.question=null"]
    sentence = (
        f"The question and the claims of experiment={name} are about its own {' and '.join(others)}, and are left out; "
        "study.question= and claims= give yours."
    )
    return [*arguments, *question, "~claims"], sentence


def _name_subjects(values: dict[str, Any]) -> dict[str, str]:
    """The model and the data that an experiment chooses, by their options."""
    chosen = {group: default_options()[group] for group in _SUBJECTS}
    for one in values.get("defaults", []):
        if isinstance(one, dict):
            chosen |= {
                group: option
                for key, option in one.items()
                if (group := key.removeprefix("override").strip().lstrip("/")) in _SUBJECTS
            }
    return chosen
