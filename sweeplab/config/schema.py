"""The configuration's keys, read off the models: groups with their options, and what each key is."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from sweeplab.config.adapter import AnyAdapter
from sweeplab.config.conf import option_values, options
from sweeplab.config.data import AnyData
from sweeplab.config.executor import AnyExecutor
from sweeplab.config.model import AnyModel
from sweeplab.config.optimizer import OPTIMIZERS, OtherOptimizer
from sweeplab.config.quantization import QUANTIZATIONS
from sweeplab.config.sampler import AnyPruner, AnySampler
from sweeplab.config.study import AxisConfig, BoundConfig, StudyConfig
from sweeplab.config.tracking import AnyTracking
from sweeplab.config.training import AnySchedule
from sweeplab.config.trial import TrialConfig
from sweeplab.records.section import Section, said_of
from sweeplab.runtime.errors import write_value


class Group(NamedTuple):
    """A folder of conf whose options have different keys."""

    name: str
    decider: str  # the key that says which option it is
    options: dict[str, type[Section]]  # by the decider's value

    def kind_of(self, values: dict[str, Any]) -> type[Section] | None:
        """The class of a section's plain values; None where the decider has a value that is none."""
        value = "mixed" if self.name == "quantization" and values.get("pattern") else values.get(self.decider)
        known = self.options.get(str(value))
        return OtherOptimizer if known is None and self.name == "optimizer" else known

    def with_key(self, name: str) -> list[str]:
        """The decider's values whose options have this key."""
        return [value for value, kind in self.options.items() if name in key_names(kind)]


def _options(union: Any, decider: str) -> dict[str, type[Section]]:
    """The classes of a union by each value that their field `decider` takes."""
    kinds = get_args(get_args(union)[0])
    return {value: kind for kind in kinds for value in get_args(kind.model_fields[decider].annotation)}


def _group(name: str, decider: str, union: Any) -> Group:
    return Group(name, decider, _options(union, decider))


GROUPS: Final[dict[str, Group]] = {
    one.name: one
    for one in (
        _group("model", "source", AnyModel),
        Group("quantization", "scheme", dict(QUANTIZATIONS)),
        _group("adapter", "method", AnyAdapter),
        _group("data", "source", AnyData),
        Group("optimizer", "_target_", dict(OPTIMIZERS)),
        _group("schedule", "shape", AnySchedule),
        _group("sampler", "name", AnySampler),
        _group("pruner", "name", AnyPruner),
        _group("executor", "name", AnyExecutor),
        _group("tracking", "name", AnyTracking),
    )
}
_CHOSEN_KEYS: Final[dict[str, tuple[str, type[Section]]]] = {  # mappings whose keys a user chooses
    "space": ("KEY", AxisConfig),
    "study.constraints": ("METRIC", BoundConfig),
}
OF_A_TRIAL: Final = tuple(TrialConfig.model_fields)


@cache
def key_names(kind: type[Section]) -> dict[str, FieldInfo]:
    """A section's keys as conf spells them."""
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def section_kinds(name: str) -> list[type[Section]]:
    """The classes of a section of the configuration: one, or one for each option; none where `name` is no section."""
    if name in GROUPS:
        return list(dict.fromkeys(GROUPS[name].options.values()))
    field = StudyConfig.model_fields.get(name)
    kind = None if field is None else field.annotation
    return [kind] if isinstance(kind, type) and issubclass(kind, Section) else []


@cache
def schema_keys() -> dict[str, FieldInfo]:
    """Every key by its dotted name, a section before what is in it; of several options' the first one's."""

    def within() -> Iterator[tuple[str, FieldInfo]]:
        for name, field in StudyConfig.model_fields.items():
            yield name, field
            for kind in section_kinds(name):
                yield from ((f"{name}.{inner}", one) for inner, one in key_names(kind).items())

    keys: dict[str, FieldInfo] = {}
    for name, field in within():
        keys.setdefault(name, field)
    return keys


def holds(key: str, kind: type) -> bool:
    """True for a key whose value is a list, or a mapping."""
    return key in schema_keys() and get_origin(schema_keys()[key].annotation) is kind


def entries_of(key: str, field: FieldInfo) -> tuple[str, type[Section]] | None:
    """What an entry of a list or mapping is called, and the keys that it has; None where they are no section's."""
    kind = get_args(field.annotation)[:1]
    if get_origin(field.annotation) is list and isinstance(kind[0], type) and issubclass(kind[0], Section):
        return f"{key}[]", kind[0]
    name, chosen = _CHOSEN_KEYS.get(key, ("", None))
    return (f"{key}.{name}", chosen) if chosen is not None else None


def is_section(key: str) -> bool:
    return bool(section_kinds(key))


def is_known(key: str) -> bool:
    """True for a key of some option, and for an entry of a mapping whose keys the user chooses."""
    parts = key.split(".")
    upper = (".".join(parts[:count]) for count in range(1, len(parts)))
    return key in schema_keys() or any(holds(one, dict) for one in upper)


@cache
def linked(name: str) -> dict[str, str]:
    """Keys with what `key` was given as `unless` or `needs`."""
    found = {key: said_of(field, name) for key, field in schema_keys().items()}
    return {key: other for key, other in found.items() if other is not None}


def value_of(config: Section, key: str) -> Any:
    """The value that a dotted key has; None where the chosen option lacks it."""
    found: Any = config
    for part in key.split("."):
        found = getattr(found, "target" if part == "_target_" else part, None)
    return found


def is_set(config: Section, link: str) -> bool:
    """Whether a key that `unless` or `needs` names has a value, or one of the values that it names: key=one|other."""
    key, equals, wanted = link.partition("=")
    value = value_of(config, key)
    return write_value(value) in wanted.split("|") if equals else value is not None


def is_filled(config: Section, link: str) -> bool:
    """As `is_set`; what is empty, zero or false is not filled."""
    return is_set(config, link) if "=" in link else bool(value_of(config, link))


@cache
def option_names(group: str) -> dict[str, str]:
    """Each option of a group in conf, with the value of its decider: those that are called as it come first."""
    decider = GROUPS[group].decider
    found = {name: str(option_values(group, name).get(decider)) for name in options(group)}
    if group == "quantization":
        found |= {name: "mixed" for name in found if option_values(group, name).get("pattern")}
    return dict(sorted(found.items(), key=lambda one: one[0] != one[1]))
