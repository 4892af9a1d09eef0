"""Which LoRA or QLoRA settings for this model, this data and this GPU, and how sure can one be?

>>> import sweeplab
>>> study = sweeplab.open_study("reports/rank_sweep")
>>> study.question
'How much rank does this data need, and what is forgotten for it?'

Nothing heavy is imported before it is used: torch comes with `build_trial` and `Study.load_adapter`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sweeplab.api.configuration import compose_study as compose_study
    from sweeplab.api.configuration import compose_trial as compose_trial
    from sweeplab.api.fit import TrialData as TrialData
    from sweeplab.api.fit import TrialModule as TrialModule
    from sweeplab.api.fit import build_trial as build_trial
    from sweeplab.api.study import Study as Study
    from sweeplab.api.study import open_study as open_study

    __version__: str

_HOMES: Final = {
    "Study": "study",
    "open_study": "study",
    "compose_study": "configuration",
    "compose_trial": "configuration",
    "TrialData": "fit",
    "TrialModule": "fit",
    "build_trial": "fit",
}

__all__ = [  # found by __getattr__
    "Study",
    "TrialData",
    "TrialModule",
    "__version__",
    "build_trial",
    "compose_study",
    "compose_trial",
    "open_study",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sweeplab")
    if name not in _HOMES:
        raise AttributeError(f"module 'sweeplab' has no attribute {name!r}")
    return getattr(import_module(f"sweeplab.api.{_HOMES[name]}"), name)
