"""Lines between a driver and workers of other machines: one TCP connection each, after both have proved one secret.

A connection tells at once that the other side has ended, which files on a shared folder do not. The secret itself is
never sent; what follows is not encrypted, so it belongs on a cluster's own network.
"""

import hmac
import queue
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from sweeplab.execution.messages import Message, line_of, receive

LOOPBACK: Final = "127.0.0.1"
HANDSHAKE_SECONDS: Final = 10.0
BREATH_SECONDS: Final = 0.1
KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}  # a machine that vanished: a minute


class NotAuthorized(Exception):
    """The other side does not know the secret, or is not expected."""


def proof(token: str, role: str, nonce: str) -> str:
    return hmac.new(token.encode(), f"{role} {nonce}".encode(), "sha256").hexdigest()


class Connection:
    """Lines both ways. Any thread may tell."""

    def __init__(self, link: socket.socket) -> None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):  # not on every system
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.socket = link
        self.reader = link.makefile("r", encoding="utf-8")
        self.lock = threading.Lock()

    def tell(self, line: str) -> None:
        """Says nothing to a side that has gone; `lines` ends then."""
        with self.lock, suppress(OSError):
            self.socket.sendall(line.encode())

    def lines(self) -> Iterator[str]:
        with suppress(OSError, ValueError):
            for line in self.reader:
                if not line.endswith("\n"):
                    return
                yield line

    def ask(self) -> Message:
        """The next message of a handshake. Raises `NotAuthorized`."""
        line = self.reader.readline(10_000)
        try:
            message = receive(line)
        except ValueError as error:
            raise NotAuthorized(f"{line[:100]!r} is no message") from error
        if not isinstance(message, dict):
            raise NotAuthorized(f"{line[:100]!r} is no message")
        return message

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.reader.close()
        self.socket.close()


def call(host: str, port: int, token: str, key: str) -> Connection:
    """A worker's way to its driver. Raises `OSError` where there is none, and `NotAuthorized` where it is another."""
    link = socket.create_connection((host, port), HANDSHAKE_SECONDS)
    connection = Connection(link)
    nonce = secrets.token_hex(16)
    asked = connection.ask()["nonce"]
    connection.tell(line_of("hello", key=key, nonce=nonce, proof=proof(token, f"worker {key}", asked)))
    answer = connection.reader.readline(10_000)
    if not answer or not hmac.compare_digest(str(receive(answer)["proof"]), proof(token, "driver", nonce)):
        connection.close()
        raise NotAuthorized(f"{host}:{port} is not the driver of this job")
    link.settimeout(None)
    return connection


class Reception:
    """Where workers call. Each is expected by a key, and its connections wait in a queue of that key."""

    def __init__(self, host: str) -> None:
        """Raises `OSError` for an address that is not this machine's."""
        self.token = secrets.token_hex(32)
        self.expected: dict[str, queue.Queue[Connection | None]] = {}
        self.listener = socket.create_server((host, 0))
        self.host, self.port = host, int(self.listener.getsockname()[1])
        threading.Thread(target=self.listen, daemon=True).start()

    def expect(self, key: str) -> "queue.Queue[Connection | None]":
        return self.expected.setdefault(key, queue.Queue())

    def listen(self) -> None:
        while self.listener.fileno() >= 0:  # until it is closed
            try:
                link, _ = self.listener.accept()
            except OSError:  # the caller went away, or this process has too many files open
                time.sleep(BREATH_SECONDS)
                continue
            threading.Thread(target=self.admit, args=(link,), daemon=True).start()

    def admit(self, link: socket.socket) -> None:
        link.settimeout(HANDSHAKE_SECONDS)
        connection = Connection(link)
        try:
            queue_of_key = self.handshake(connection)
        except (NotAuthorized, OSError, ValueError, RecursionError):
            connection.close()
        else:
            connection.socket.settimeout(None)
            queue_of_key.put(connection)

    def handshake(self, connection: Connection) -> "queue.Queue[Connection | None]":
        """Raises `NotAuthorized`."""
        nonce = secrets.token_hex(16)
        connection.tell(line_of("prove", nonce=nonce))
        hello = connection.ask()
        key = str(hello.get("key"))
        if not hmac.compare_digest(
            str(hello.get("proof")).encode(), proof(self.token, f"worker {key}", nonce).encode()
        ):
            raise NotAuthorized("wrong secret")
        if key not in self.expected:
            raise NotAuthorized(f"nobody waits for {key}")
        connection.tell(line_of("welcome", proof=proof(self.token, "driver", str(hello.get("nonce")))))
        return self.expected[key]

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
