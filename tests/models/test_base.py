"""Models of the hub, with a hub that is a socket of the test's own, or nothing at all."""

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from huggingface_hub import constants

from sweeplab.config.model import HubModel, LocalModel, ModelConfig
from sweeplab.models import base
from sweeplab.models.base import load_pretrained, load_tokenizer, read_architecture
from sweeplab.runtime.errors import ConfigError

RETRIED_SECONDS = 23  # slept between the attempts of a download that is retried
OF_THE_HUB = HubModel(name="nobody/nothing")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Takes connections as the hub; where it is closed, none does. No proxy stands between."""
    monkeypatch.setattr(base, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        base.is_hub_reachable.cache_clear()
        yield listening
    base.is_hub_reachable.cache_clear()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been slept: no test waits, and no busy machine counts."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def test_a_hub_that_takes_connections_is_asked(server: socket.socket) -> None:
    assert base.is_hub_reachable()
    assert not base.is_cache_only(OF_THE_HUB)


def test_without_a_network_only_the_cache_is_looked_at(server: socket.socket) -> None:
    server.close()
    assert not base.is_hub_reachable()
    assert base.is_cache_only(OF_THE_HUB)
    assert not base.is_cache_only(LocalModel(name="nobody/nothing", path="base"))


def test_behind_a_proxy_the_hub_is_asked(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    server.close()
    monkeypatch.setattr(base, "getproxies", lambda: {"http": "http://127.0.0.1:1"})
    assert base.is_hub_reachable()


def test_offline_by_choice_nothing_is_asked(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not base.is_hub_reachable()


@pytest.mark.parametrize(
    ("read", "part"),
    [(read_architecture, "config.json"), (load_tokenizer, "tokenizer")],
)
def test_a_model_out_of_reach_is_refused_at_once_with_a_remedy(
    read: Callable[[ModelConfig], object],
    part: str,
    server: socket.socket,
    slept: list[float],
    capfd: pytest.CaptureFixture[str],
) -> None:
    server.close()
    with pytest.raises(ConfigError) as refusal:
        read(OF_THE_HUB)
    assert str(refusal.value) == (
        f"model.name=nobody/nothing: no network, and no {part} from an earlier download; "
        "download the folder and use model=local model.path=DIR"
    )
    assert sum(slept) < RETRIED_SECONDS / 2
    assert "Retrying" not in capfd.readouterr().err


def test_weights_out_of_reach_are_refused_too(server: socket.socket, slept: list[float]) -> None:
    server.close()
    known = OF_THE_HUB.replaced(architecture={"model_type": "llama"})
    with pytest.raises(ConfigError, match=r"no network, and no weights from an earlier download; download the folder"):
        load_pretrained(known, {})
