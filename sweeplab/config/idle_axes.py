"""What would be set or varied without effect is refused: a key that the source does not read, an axis that is idle."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sweeplab.config.adapter import LORA_METHODS, OF_LORA, VIRTUAL_TOKEN_METHODS
from sweeplab.config.quantization import HQQ_BITS
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import ConfigError


class Idle(NamedTuple):
    """When an axis moves nothing: what the configuration says then, or None; the keys that decide it; a way out."""

    why: Callable[[TrialConfig], str | None]
    deciders: tuple[str, ...]
    remedy: str


def unless_method(*methods: str) -> Idle:
    def why(config: TrialConfig) -> str | None:
        method = config.adapter.method
        return None if method in methods else f"adapter.method={method}"

    return Idle(why, ("adapter.method",), f"choose adapter={methods[0]}")


def while_set(section: str, key: str) -> Idle:
    def why(config: TrialConfig) -> str | None:
        value = getattr(getattr(config, section), key)
        return None if value is None else f"{section}.{key}={value}"

    return Idle(why, (f"{section}.{key}",), f"drop {section}.{key}")


def without_hqq(config: TrialConfig) -> str | None:
    quantization = config.quantization
    return f"quantization={quantization.label()}" if quantization.schemes().isdisjoint(HQQ_BITS) else None


def while_constant(config: TrialConfig) -> str | None:
    return "schedule.shape=constant" if config.schedule.shape == "constant" else None


def ready_made(config: TrialConfig) -> str | None:
    return f"data.source={config.data.source}" if config.data.source in ("world", "digits") else None


IDLE: Final[dict[str, tuple[Idle, ...]]] = {
    **{f"adapter.{key}": (unless_method(*LORA_METHODS),) for key in OF_LORA},
    "adapter.rank": (unless_method(*LORA_METHODS), while_set("adapter", "budget")),
    "adapter.alpha_ratio": (unless_method(*LORA_METHODS), while_set("adapter", "alpha")),
    "adapter.num_virtual_tokens": (unless_method(*VIRTUAL_TOKEN_METHODS),),
    "adapter.num_layers": (unless_method("top_layers"),),
    "quantization.group_size": (
        Idle(without_hqq, ("quantization.scheme", "quantization.pattern"), "choose quantization=hqq4"),
    ),
    "schedule.warmup_ratio": (while_set("schedule", "warmup_steps"),),
    "schedule.end_factor": (Idle(while_constant, ("schedule.shape",), "choose schedule=cosine"),),
    "training.epochs": (while_set("training", "max_steps"),),
    "data.heldout_fraction": (
        while_set("data", "heldout_path"),
        Idle(ready_made, ("data.source",), "choose data=json"),
    ),
}


def decider(key: str, varied: Iterable[str]) -> str | None:
    """The first of the `varied` axes that decides whether `key` moves anything: a key, or a group around it."""
    deciders = [one for idle in IDLE.get(key, ()) for one in idle.deciders]
    return next((axis for axis in varied for one in deciders if one == axis or one.startswith(f"{axis}.")), None)


def refuse_idle(config: TrialConfig, drawn: Iterable[str], varied: Iterable[str]) -> None:
    """Raises `ConfigError` for an axis among those `drawn` that moves nothing in `config`; `varied` are all axes."""
    every = tuple(varied)
    for key in drawn:
        for idle in IDLE.get(key, ()):
            why = idle.why(config)
            if why is not None:
                other = decider(key, every)
                remedy = idle.remedy if other is None else f"give it a space.{key}.when that names {other}"
                raise ConfigError(f"space.{key} has no effect while {why}; {remedy}, or drop the axis")
