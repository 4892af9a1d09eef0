"""Whether the hub can be reached, asked once, so that without a network nothing waits for retries."""

import socket
from functools import cache
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

from sweeplab.config.model import ModelConfig

CONNECT_SECONDS: Final = 3.0  # huggingface_hub 2.4 tries each file six times, in 23 seconds and more


@cache
def hub_answers() -> bool:
    """True where the hub takes a connection, or where a proxy stands between, which only a request would try."""
    address = urlsplit(constants.ENDPOINT)
    if constants.is_offline_mode() or address.hostname is None:
        return False
    if address.scheme in getproxies():
        return True
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def only_cached(model: ModelConfig) -> bool:
    """True for a model of the hub that is to be looked for in the cache of earlier downloads alone."""
    return model.source == "hub" and not hub_answers()
