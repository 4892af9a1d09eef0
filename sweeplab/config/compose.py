"""From command-line overrides to configurations: the study's, and one per trial, all composed by Hydra."""

import pickle
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args, get_origin

from hydra import compose
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sweeplab.config.compatible import check_trial
from sweeplab.config.study import StudyConfig
from sweeplab.config.study_rules import check_study
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError, describe_error, refuse
from sweeplab.runtime.paths import abbreviate_home

PACKAGE: Final = Path(__file__).parents[1]
WHEEL_CONF: Final = PACKAGE / "conf"
CONF: Final = WHEEL_CONF if WHEEL_CONF.is_dir() else PACKAGE.parent / "conf"  # a checkout has it beside the package
DEFAULT_NAME: Final = "single"  # of a study without an experiment

NOT_OF_A_TRIAL: Final[dict[str, Any]] = {"space": {}, "claims": [], "study.enqueue": []}


class Request(NamedTuple):
    """What the command line asked for."""

    config: StudyConfig
    overrides: list[str]  # as Hydra takes them, for composing trials
    command: str  # what a user types to run it again


def to_study_config(composed: DictConfig, default_name: str) -> StudyConfig:
    """The checked dataclasses of a composed study. Raises `ConfigError`."""
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        key = error.full_key
        missing = isinstance(error, MissingMandatoryValue)
        raise ConfigError(
            f"{key} is missing; give {key}=..." if missing else f"{key}: {describe_error(error)}"
        ) from error
    assert isinstance(config, StudyConfig)
    refuse_nested(config)
    for section in (config.model, config.data, config.evaluation, *config.claims):
        abbreviate_home(section)
    config.space, config.study.enqueue = abbreviate_home(config.space), abbreviate_home(config.study.enqueue)
    config.study.name = config.study.name or default_name
    check_study(config)
    return config


def plain(kind: Any, value: Any) -> bool:
    """False for a list or a mapping where `kind` holds neither."""
    if get_origin(kind) is list:
        return all(plain(get_args(kind)[0], one) for one in value)
    if get_origin(kind) is dict:
        return all(plain(get_args(kind)[1], one) for one in value.values())
    return kind not in (str, int, float, bool) or not isinstance(value, list | dict)


def refuse_nested(section: Any, prefix: str = "") -> None:
    """OmegaConf 2.3 lets a list pass as an element of `list[str]`. Raises `ConfigError`."""
    for one in fields(section):
        value = getattr(section, one.name)
        if is_dataclass(value):
            refuse_nested(value, f"{prefix}{one.name}.")
        elif value is not None and not plain(one.type, value):
            raise refuse(f"{prefix}{one.name}", "must hold plain values", value, "take the inner brackets away")


def spelled(value: Any) -> str:
    """A value in Hydra's override grammar; text is quoted."""
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()  # only a backslash before a quote is doubled
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


@cache
def is_group(key: str) -> bool:
    return (CONF / key.replace(".", "/")).is_dir()


def options(group: str) -> list[str]:
    """The names that a group can be set to."""
    return sorted(path.stem for path in (CONF / group.replace(".", "/")).glob("*.yaml"))


def override(key: str, value: Any) -> str:
    """One override; a group is chosen by its option's bare name. Raises `ConfigError` for an option that is none."""
    if not is_group(key):
        return f"{key}={spelled(value)}"
    if value not in options(key):
        raise refuse(f"space.{key}", "must name options of the group", value, f"choose from {', '.join(options(key))}")
    return f"{key}={value}"


@lru_cache(maxsize=64)
def composed_with(overrides: tuple[str, ...]) -> bytes:
    """What Hydra makes of overrides, pickled, since it is copied six times as fast that way.

    To compose takes fifty times as long as to set a value in what was composed. What no trial has and may be large, is
    left out.
    """
    composed = compose("config", overrides=list(overrides))
    for key, nothing in NOT_OF_A_TRIAL.items():
        OmegaConf.update(composed, key, nothing, merge=False, force_add=True)  # ~claims took it away
    return pickle.dumps(composed)


def trial_config(overrides: list[str], params: dict[str, Any]) -> TrialConfig:
    """The experiment with one trial's values on top. Raises `ConfigError` where a value or a combination cannot run.

    An option of a group is chosen before the values inside it, so that space.optimizer and space.optimizer.lr go
    together. Values are set as Hydra itself sets those of overrides, in what it composed of all else.
    """
    own = [override(key, value) for key, value in params.items()]
    kept = tuple(one for one in overrides if one.lstrip("+~").partition("=")[0] not in params)
    groups = tuple(one for one, key in zip(own, params, strict=True) if is_group(key))
    try:
        composed = pickle.loads(composed_with(kept + groups))
        for key, value in params.items():
            if not is_group(key):
                OmegaConf.update(composed, key, value, merge=True)
        parts: dict[str, Any] = {one.name: OmegaConf.to_object(composed[one.name]) for one in fields(TrialConfig)}
    except (HydraException, OmegaConfBaseException) as error:
        cause = describe_error(error.__cause__ or error)
        raise ConfigError(f"space: a trial with {', '.join(own)} cannot be composed: {cause}; mend space") from error
    config: TrialConfig = abbreviate_home(TrialConfig(**parts))
    check_trial(config)
    return config
