"""How a refusal reads: one line with key, value, rule and remedy."""

from sweeplab.config import ConfigError


def refuse(key: str, rule: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"{key} {rule}, got {value}; {remedy}")


def check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise refuse(key, "is unknown", repr(value), f"choose one of {', '.join(choices)}")


def check_at_least(key: str, value: float | None, least: float, remedy: str) -> None:
    if value is not None and not value >= least:
        raise refuse(key, f"must be at least {least}", value, remedy)
