"""The start of a worker process; what it does then is tested with the driver, which starts it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sweeplab.execution.worker import _compile_at_first_call


def test_what_a_library_compiles_as_it_is_imported_is_compiled_at_its_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[tuple[str, dict[str, Any]]] = []

    def compile_now(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        compiled.append((function.__name__, options))
        return lambda *arguments: ("compiled", function(*arguments))

    monkeypatch.setattr(torch, "compile", compile_now)
    with _compile_at_first_call():

        class Layer:
            @torch.compile(dynamic=True)
            def double(self, number: int) -> Any:
                """Twice the number."""
                return 2 * number

            @torch.compile
            def triple(self, number: int) -> Any:
                return 3 * number

    assert vars(torch)["compile"] is compile_now
    assert compiled == []
    assert Layer.double.__doc__ == "Twice the number."
    assert [Layer().double(2), Layer().double(3)] == [("compiled", 4), ("compiled", 6)]
    assert compiled == [("double", {"dynamic": True})]
    assert Layer().triple(2) == ("compiled", 6)
