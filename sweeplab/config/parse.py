"""Plain values as checked sections: what Hydra composed, and what records and messages hold."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sweeplab.config.earlier import fill_later_keys
from sweeplab.config.refusals import refusal
from sweeplab.config.schema import GROUPS, key_names
from sweeplab.config.trial import TrialConfig
from sweeplab.records.section import Section
from sweeplab.runtime.errors import refuse

_LARGEST: Final = 10**15  # torch counts bytes, and JSON's readers numbers, with few bits more
_SectionT = TypeVar("_SectionT", bound=Section)


def parse(kind: type[_SectionT], values: Mapping[str, Any]) -> _SectionT:
    """A whole configuration of a study or a trial. Raises `ConfigError` for the first value that breaks a rule."""
    try:
        parsed = kind.model_validate(values)
    except ValidationError as error:
        raise refusal(error, values) from error
    _refuse_huge(values)
    return parsed


def _refuse_huge(values: Any, name: str = "") -> None:
    """Raises `ConfigError` for a whole number that only Python can hold."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            _refuse_huge(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, list | tuple):
        for value in values:
            _refuse_huge(value, name)
    elif isinstance(values, int) and abs(values) > _LARGEST:
        raise refuse(name, f"holds a whole number beyond {_LARGEST}", values, "write a smaller one")


@cache
def _checker_of(name: str) -> "TypeAdapter[Any]":
    return TypeAdapter(get_type_hints(TrialConfig, include_extras=True)[name])


def parse_section(name: str, values: Any) -> Any:
    """One section of a trial. Raises `ConfigError` as `parse` does."""
    try:
        return _checker_of(name).validate_python(values)
    except ValidationError as error:
        raise refusal(error, {name: values}, (name,)) from error


def trial_config_from_dict(values: Mapping[str, Any]) -> TrialConfig:
    """A `TrialConfig` from what `to_dict` gave, or from an earlier record.

    Version 1 held the keys of all options of a group, whichever was chosen. Keys that came later have the value with
    which the record was made. Raises `ConfigError`.
    """
    return parse(
        TrialConfig, {name: fill_later_keys(name, own_keys(name, section)) for name, section in values.items()}
    )


def own_keys(name: str, values: Any) -> Any:
    """A section without what belongs to other options of its group."""
    group = GROUPS.get(name)
    kind = group.kind_of(values) if group is not None and isinstance(values, dict) else None
    if group is None or kind is None or name == "optimizer":
        return values
    own = key_names(kind)
    return {key: value for key, value in values.items() if key in own or not group.with_key(key)}
