"""An axis that moves nothing is refused; when one does follows from the schema."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sweeplab.config.quantization import HQQ_BITS
from sweeplab.config.refusals import remedy_of
from sweeplab.config.schema import GROUPS, is_filled, is_set, key_names, linked, value_of
from sweeplab.config.trial import TrialConfig
from sweeplab.records.section import Section
from sweeplab.runtime.errors import ConfigError, write_value


class _Idle(NamedTuple):
    """Why an axis moves nothing, the keys that decide it, and a way out."""

    why: str
    deciders: tuple[str, ...]
    remedy: str


def deciders(key: str) -> list[str]:
    """The keys that decide whether `key` moves anything: that of its option, and one that takes its place."""
    section, _, name = key.partition(".")
    group, links = GROUPS.get(section), (linked("unless").get(key), linked("needs").get(key))
    found = [link.partition("=")[0] for link in links if link is not None]
    if group is not None and name and not all(name in key_names(kind) for kind in group.options.values()):
        found.insert(0, f"{section}.{group.decider}")
        if section == "quantization":
            found.append("quantization.pattern")
    return found


def _reasons(key: str, config: TrialConfig) -> Iterator[_Idle]:
    section, _, name = key.partition(".")
    chosen: Section = getattr(config, section)
    if section in GROUPS and name and section != "optimizer" and _is_unread(key, config):
        remedy = remedy_of(section, name)
        if remedy is not None:
            first = remedy.partition(" or ")[0]
            yield _Idle(_shown(section, chosen), tuple(deciders(key)), f"choose {first}")
    other, needed = linked("unless").get(key), linked("needs").get(key)
    if other is not None and is_set(config, other):
        name, _, wanted = other.partition("=")
        yield _Idle(
            f"{name}={write_value(value_of(config, name))}",
            (name,),
            f"choose another {name}" if wanted else f"drop {name}",
        )
    if needed is not None and not is_filled(config, needed):
        yield _Idle(f"{needed} is empty", (needed,), f"give {needed} too")


def _is_unread(key: str, config: TrialConfig) -> bool:
    section, _, name = key.partition(".")
    if key == "quantization.group_size":
        return config.quantization.schemes().isdisjoint(HQQ_BITS)
    return name.partition(".")[0] not in key_names(getattr(config, section).__class__)


def _shown(section: str, chosen: Section) -> str:
    decider = GROUPS[section].decider
    label = getattr(chosen, "label", None)
    return f"{section}={label()}" if label is not None else f"{section}.{decider}={getattr(chosen, decider)}"


def decider(key: str, varied: Iterable[str]) -> str | None:
    """The first of the `varied` axes that decides whether `key` moves anything: a key, or a group around it."""
    keys = deciders(key)
    return next((axis for axis in varied for one in keys if one == axis or one.startswith(f"{axis}.")), None)


def refuse_idle(config: TrialConfig, drawn: Iterable[str], varied: Iterable[str]) -> None:
    """Raises `ConfigError` for an axis among those `drawn` that moves nothing in `config`; `varied` are all axes."""
    every = tuple(varied)
    for key in drawn:
        for idle in _reasons(key, config):
            other = decider(key, every)
            remedy = idle.remedy if other is None else f"give it a space.{key}.when that names {other}"
            raise ConfigError(f"space.{key} has no effect while {idle.why}; {remedy}, or drop the axis")
