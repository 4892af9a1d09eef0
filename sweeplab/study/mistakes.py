"""Hydra's errors in one line that names key, value, rule and remedy."""

from dataclasses import fields, is_dataclass
from difflib import get_close_matches

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from sweeplab.config import StudyConfig
from sweeplab.study.compose import CONF, first_line


def nearest(name: str, there: list[str]) -> str:
    near = get_close_matches(name, there, 1, 0.4)
    return f"; did you mean {near[0]}?" if near else ""


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def sibling_keys(key: str) -> list[str]:
    """What stands beside `key` in the schema; nothing for a section without one."""
    section: object = StudyConfig
    *parents, _ = key.split(".")
    for parent in parents:
        kinds = {one.name: one.default_factory for one in fields(section)} if is_dataclass(section) else {}
        section = kinds.get(parent)
    prefix = "".join(f"{parent}." for parent in parents)
    return [f"{prefix}{one.name}" for one in fields(section)] if is_dataclass(section) else []


def unknown_option(asked: str) -> str:
    group, _, name = asked.rpartition("/")
    there = options(group)
    return f"{group}={name} does not exist; there are: {', '.join(there)}{nearest(name, there)}"


def unknown_key(key: str) -> str:
    if key == "experiment":
        return f"an experiment is added with a plus: +experiment=NAME; there are: {', '.join(options(key))}"
    every = "`python -m sweeplab --cfg job` lists them all"
    return f"{key} is no key of the configuration; {every}{nearest(key, sibling_keys(key))}"


def explained(error: HydraException | OmegaConfBaseException) -> str:
    """The mistake behind an error of Hydra's, with what exists and what is nearest to what was asked for."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read: {lines[0]}; quote what holds brackets, braces or blanks"
    if "Could not find" in lines[0] and "/" in lines[0]:
        return unknown_option(lines[0].split("'")[-2])
    if lines[0].startswith("Could not override"):
        return unknown_key(lines[0].split("'")[1])
    cause = f": {first_line(error.__cause__)}" if error.__cause__ is not None else ""
    return f"{lines[0]}{cause}"
