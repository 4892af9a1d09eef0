"""Where the fetched model may go, and that one which is there is left alone."""

from pathlib import Path

import pytest

from experiments.smollm2 import fetch


@pytest.mark.parametrize("arguments", [[], ["a", "b"], [str(fetch.ROOT / "models")], [str(fetch.ROOT)]])
def test_weights_go_to_one_folder_outside_the_checkout(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "download", lambda folder: pytest.fail("nothing may be downloaded"))
    with pytest.raises(SystemExit, match="outside th"):
        fetch.main(arguments)


def test_what_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "download", lambda folder: pytest.fail("nothing may be downloaded"))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert fetch.main([str(tmp_path)]) == f"{tmp_path} has the model already."
