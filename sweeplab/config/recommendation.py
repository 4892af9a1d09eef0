"""What `action=recommend` takes by itself: its own experiment, unless the command names one."""

from collections.abc import Sequence
from typing import Final

_ACTION: Final = "action=recommend"
_EXPERIMENT: Final = "+experiment=recommend"


def imply_experiment(arguments: Sequence[str]) -> list[str]:
    """What such a command says without being told; nothing for another action, or beside another experiment."""
    names_one = any(one.lstrip("+").startswith("experiment") for one in arguments)
    return [_EXPERIMENT] if _ACTION in arguments and not names_one else []
