"""How a refusal reads: one line with key, value, rule and remedy."""

import re
from typing import Final

from sweeplab.runtime.errors import ConfigError

PASSWORDS: Final = (r"(://[^:/@\s]*:)\S*(?=@)", r"([?&]password=)[^&\s'\"]*")


def masked(text: str) -> str:
    """The text without the passwords of the addresses in it."""
    for pattern in PASSWORDS:
        text = re.sub(pattern, r"\1***", text)
    return text


def refuse(key: str, rule: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"{key} {rule}, got {value}; {remedy}")


def check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise refuse(key, "is unknown", repr(value), f"choose one of {', '.join(choices)}")


def check_at_least(key: str, value: float | None, least: float, remedy: str) -> None:
    if value is not None and not value >= least:
        raise refuse(key, f"must be at least {least}", value, remedy)
