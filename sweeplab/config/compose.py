"""From command-line overrides to configurations: the study's, and one per trial, all composed by Hydra."""

import pickle
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, NoReturn

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeplab.config.compatible import check_trial
from sweeplab.config.conf import is_group, options
from sweeplab.config.given import refuse_code_of_files, refuse_given_deciders, refuse_idle_keys
from sweeplab.config.parse import parse
from sweeplab.config.schema import GROUPS, OF_A_TRIAL, is_known, key_names, option_names
from sweeplab.config.study import StudyConfig, choose_seeds
from sweeplab.config.study_rules import check_study
from sweeplab.config.texts import is_converted, keep_texts, quote_text
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError, describe_error, refuse
from sweeplab.runtime.paths import abbreviate_home

DEFAULT_NAME: Final = "single"  # of a study without an experiment
_MISSING: Final = "???"  # OmegaConf's, of a value that conf leaves to the user
_NOT_OF_A_TRIAL: Final[dict[str, Any]] = {"space": {}, "claims": [], "study.enqueue": []}
_WITH_PATHS: Final = ("model", "data", "evaluation", "claims", "space")


class Request(NamedTuple):
    """What the command line asked for."""

    config: StudyConfig
    overrides: list[str]  # as Hydra takes them, for composing trials
    command: str  # what a user types to run it again


def _refuse_environment(*asked: Any) -> NoReturn:
    """In the place of OmegaConf's `oc.env`: what it read would stand in every record, report and W&B run."""
    raise ConfigError(f"the environment's {asked[0] if asked else 'variables'} is not read; write the value itself")


def _refuse_deprecation(*asked: Any) -> NoReturn:
    """In the place of OmegaConf's `oc.deprecated`, which warns in a line of its own and keeps what it points to."""
    raise ConfigError(f"oc.deprecated of {asked[0] if asked else 'a key'} is not read; write the value itself")


OmegaConf.register_new_resolver("oc.env", _refuse_environment, replace=True)
OmegaConf.register_new_resolver("oc.deprecated", _refuse_deprecation, replace=True)


def mark_known(override: str) -> str:
    """An override of a key that some option has, as Hydra takes it whichever option is chosen: pydantic judges it.

    Texts stay as they are typed. An experiment's name is one.
    """
    key, _, name = override.partition("=")
    if key.lstrip("+") == "experiment" and is_converted(name):
        return f"{key}={quote_text(name)}"
    override = keep_texts(override)
    return f"++{override}" if "=" in override and is_known(key) and not is_group(key) else override


def compose_conf(overrides: Iterable[str]) -> DictConfig:
    """What Hydra makes of overrides, unchecked. Raises Hydra's own errors."""
    return compose("config", overrides=[mark_known(one) for one in overrides])


def to_study_config(composed: DictConfig, default_name: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """The checked configuration of a composed study. Raises `ConfigError`, also for what has no effect."""
    values = _resolved(composed)
    for name in _WITH_PATHS:
        if name in values:  # ~claims took it away
            values[name] = abbreviate_home(values[name])
    for name in ("claims", "space"):
        if values.get(name) is None:  # claims=null too
            values.pop(name, None)
    study = values.get("study")
    if isinstance(study, dict):
        values["study"] = {**study, "name": study.get("name") or default_name}
        values["study"]["enqueue"] = abbreviate_home(study.get("enqueue"))
        if study.get("seeds") is None:
            values["study"]["seeds"] = choose_seeds(
                values.get("space"), study.get("enqueue"), (values.get("sampler") or {}).get("name")
            )
    for group, kept in _swept(values.get("space")).items():
        values[group] = _without(group, values[group], kept)
    refuse_given_deciders(values, overrides)
    config = parse(StudyConfig, values)
    refuse_code_of_files(config, overrides)
    check_study(config)
    refuse_idle_keys(config, overrides)
    return config


def _resolved(composed: DictConfig) -> dict[str, Any]:
    """Plain values without those that are missing. Raises `ConfigError` for an interpolation that leads nowhere."""
    try:
        values: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {describe_error(error)}") from error
    return {str(name): _without_missing(value) for name, value in values.items()}


def _without_missing(section: Any) -> Any:
    return {key: value for key, value in section.items() if value != _MISSING} if isinstance(section, dict) else section


def _swept(space: Any) -> dict[str, set[str]]:
    """Groups that are axes, each with the keys that any of its choices has."""
    kept = {}
    for name in GROUPS:
        spec = space.get(name) if isinstance(space, dict) else None
        choices = spec.get("choices") if isinstance(spec, dict) else None
        if isinstance(choices, list):
            values = option_names(name)
            kinds = [GROUPS[name].options.get(values.get(str(one), "")) for one in choices]
            kept[name] = {key for kind in kinds if kind is not None for key in key_names(kind)}
    return kept


def _without(group: str, values: Any, idle: Iterable[str]) -> Any:
    """A section without those of the keys `idle` that its option lacks: another trial of the study reads them."""
    kind = GROUPS[group].kind_of(values) if isinstance(values, dict) else None
    if kind is None:
        return values
    own = key_names(kind)
    return {key: value for key, value in values.items() if key in own or key not in idle}


def spell(value: Any) -> str:
    """A value in Hydra's override grammar; text is quoted."""
    if isinstance(value, str):
        return quote_text(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def override(key: str, value: Any) -> str:
    """One override; a group is chosen by its option's bare name. Raises `ConfigError` for an option that is none."""
    if not is_group(key):
        return f"{key}={spell(value)}"
    if value not in options(key):
        raise refuse(f"space.{key}", "must name options of the group", value, f"choose from {', '.join(options(key))}")
    return f"{key}={value}"


@lru_cache(maxsize=64)
def _composed_with(overrides: tuple[str, ...]) -> bytes:
    """What Hydra makes of overrides, pickled, since it is copied six times as fast that way.

    To compose takes fifty times as long as to set a value in what was composed. What no trial has and may be large, is
    left out.
    """
    composed = compose_conf(overrides)
    for key, nothing in _NOT_OF_A_TRIAL.items():
        OmegaConf.update(composed, key, nothing, merge=False, force_add=True)  # ~claims took it away
    return pickle.dumps(composed)


def trial_config(overrides: list[str], params: dict[str, Any]) -> TrialConfig:
    """The experiment with one trial's values on top. Raises `ConfigError` where a value or a combination cannot run.

    An option of a group is chosen before the values inside it, so that space.optimizer and space.optimizer.lr go
    together. Values are set as Hydra itself sets those of overrides, in what it composed of all else. A varied key that
    this trial's option lacks is left out, and so is what others of the study need where the group itself varies.
    """
    own = [override(key, value) for key, value in params.items()]
    kept = tuple(one for one in overrides if one.lstrip("+~").partition("=")[0] not in params)
    groups = tuple(one for one, key in zip(own, params, strict=True) if is_group(key))
    try:
        composed = pickle.loads(_composed_with(kept + groups))
        for key, value in params.items():
            if not is_group(key):
                OmegaConf.update(composed, key, value, merge=True, force_add=is_known(key))
        values = {name: OmegaConf.to_container(composed[name], resolve=True) for name in OF_A_TRIAL}
    except (HydraException, OmegaConfBaseException) as error:
        cause = describe_error(error.__cause__ or error)
        raise ConfigError(f"space: a trial with {', '.join(own)} cannot be composed: {cause}; mend space") from error
    sections = {name: _without_missing(abbreviate_home(section)) for name, section in values.items()}
    for name, group in GROUPS.items():
        if name in sections:
            drawn = _drawn_keys(name, params)
            others = _all_keys(name) if name in params else set[str]()
            idle = others - drawn if name == "optimizer" else others | drawn  # an optimizer is asked for what it takes
            sections[name] = _without(group.name, sections[name], idle)
    config = parse(TrialConfig, sections)
    refuse_code_of_files(config, overrides)
    check_trial(config)
    return config


def _all_keys(group: str) -> set[str]:
    return {key for kind in GROUPS[group].options.values() for key in key_names(kind)}


def _drawn_keys(group: str, params: Iterable[str]) -> set[str]:
    """Keys of a group that `params` set."""
    begin = f"{group}."
    return {key.removeprefix(begin).partition(".")[0] for key in params if key.startswith(begin)}
