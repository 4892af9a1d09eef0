"""Optuna keeps the state of CMA-ES as a pickle among a trial's attributes: one of other classes is not loaded."""

import io
import pickle
from typing import Any, Final

_STATE: Final = "cma:optimizer:"
_CLASSES: Final = {
    ("cmaes._cma", "CMA"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class _StateUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _CLASSES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a CMA-ES state")
        return super().find_class(module, name)


def is_safe_state(system_attrs: dict[str, Any]) -> bool:
    """True where Optuna may load what the attributes hold: a file that somebody else wrote could run any code."""
    parts = [value for key, value in system_attrs.items() if key.startswith(_STATE)]
    if not parts:
        return True
    try:
        text = "".join(system_attrs[f"{_STATE}{place}"] for place in range(len(parts)))
        _StateUnpickler(io.BytesIO(bytes.fromhex(text))).load()
    except Exception:  # a damaged pickle raises whatever its bytes lead to
        return False
    return True
