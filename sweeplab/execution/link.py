"""The link between a driver and the processes that it starts: messages over a socket, each one line of JSON.

On one machine it is a pair of unnamed Unix sockets: the worker inherits one end, and no other process can connect.
Between machines it is TCP. Both sides first prove that they know the same secret, which itself is never sent. The
messages are not encrypted, so use it only in a private network.
"""

import hmac
import json
import os
import queue
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

Message = dict[str, Any]

LOOPBACK: Final = "127.0.0.1"
_HANDSHAKE_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.1
_LONGEST_HANDSHAKE_BYTES: Final = 10_000
_KEEPALIVE: Final = {  # a machine that vanished is noticed within a minute
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 60_000,
}


class NotAuthorized(Exception):
    """The other side does not know the secret, or has no invitation."""


class InvalidMessage(Exception):
    """The other side sent a line that is not a message."""


def _parse_message(line: bytes) -> Message:
    """Raises `InvalidMessage`."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise InvalidMessage(repr(line.decode(errors="replace")[:100]))
    return message


class Link:
    """A connection for messages in both directions. Any thread may send, only one may receive."""

    def __init__(self, connection: socket.socket) -> None:
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                if hasattr(socket, name):  # not on every system
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.socket = connection
        self.reader = connection.makefile("rb")
        self.lock = threading.Lock()

    def send(self, kind: str, **content: Any) -> None:
        """Sends a message. Does nothing where the connection is closed; `messages` then ends."""
        line = json.dumps({"kind": kind, **content}) + "\n"
        with self.lock, suppress(OSError):
            self.socket.sendall(line.encode())

    def messages(self) -> Iterator[Message]:
        """Yields messages until the connection ends; an incomplete last line is dropped. Raises `InvalidMessage`."""
        with suppress(OSError, ValueError):  # reset by the other side, or closed by this one
            for line in self.reader:
                if not line.endswith(b"\n"):
                    return
                yield _parse_message(line)

    def receive_handshake(self) -> Message:
        """The next message, of limited length, before the other side is known. Raises `InvalidMessage`, `OSError`."""
        return _parse_message(self.reader.readline(_LONGEST_HANDSHAKE_BYTES))

    def finish(self) -> None:
        """Ends this side's messages; the other side may still send."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def abandon(self) -> None:
        """Gives up this process's copy of the connection, which another process goes on with.

        It takes no lock: a thread that a fork left behind may hold it for ever.
        """
        if self.socket.fileno() >= 0:
            os.close(self.socket.detach())

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that receives
        self.reader.close()
        self.socket.close()


class Invitation(NamedTuple):
    """How a process reaches its driver: an inherited socket (`descriptor`), or an address in the network."""

    descriptor: int | None = None
    host: str = ""
    port: int = 0
    token: str = ""
    key: str = ""  # of this process, so that the driver knows who connects


def _prove(token: str, role: str, nonce: str) -> str:
    return hmac.new(token.encode(), f"{role} {nonce}".encode(), "sha256").hexdigest()


def _is_proof(proof: object, token: str, role: str, nonce: str) -> bool:
    return hmac.compare_digest(str(proof).encode(), _prove(token, role, nonce).encode())


def connect(invitation: Invitation) -> Link:
    """The link of a process to its driver. Raises `OSError` where nothing listens at the address, `NotAuthorized` where
    it is not the driver."""
    if invitation.descriptor is not None:
        return Link(socket.socket(fileno=invitation.descriptor))
    _, host, port, token, key = invitation
    link = Link(socket.create_connection((host, port), _HANDSHAKE_SECONDS))
    nonce = secrets.token_hex(16)
    try:
        challenge = link.receive_handshake()
        link.send("hello", key=key, nonce=nonce, proof=_prove(token, f"worker {key}", str(challenge.get("nonce"))))
        is_driver = _is_proof(link.receive_handshake().get("proof"), token, "driver", nonce)
    except InvalidMessage:
        is_driver = False
    except OSError:
        link.close()
        raise
    if not is_driver:
        link.close()
        raise NotAuthorized(f"{host}:{port} is not the driver of this job")
    link.socket.settimeout(None)
    return link


def connect_from_stdin() -> Link:
    """The link of a process that reads its invitation, one line, from stdin. Raises as `connect`.

    A process that a library forks off this one gives up the link, so that the other side learns when this one ends.
    """
    link = connect(Invitation(*json.loads(sys.stdin.readline())))
    os.register_at_fork(after_in_child=link.abandon)
    return link


def invite_child() -> tuple[Link, Invitation]:
    """This process's end of a new link, and the invitation for a child process that inherits the other end."""
    ours, theirs = socket.socketpair()
    return Link(ours), Invitation(theirs.detach())


class Reception:
    """Accepts the connections of a driver's processes. Each process has an invitation, and a queue for its links."""

    def __init__(self, host: str | None) -> None:
        """`host` is an address of this machine; None: only child processes connect, through inherited sockets.

        Raises `OSError` for an address that is not one of this machine.
        """
        self.host = host
        self.token = secrets.token_hex(32)
        self.queues: dict[str, queue.Queue[Link | None]] = {}
        self.listener = None if host is None else socket.create_server((host, 0), backlog=1024)
        if self.listener is not None:
            threading.Thread(target=self._listen, args=(self.listener,), daemon=True).start()

    def invite(self) -> Invitation:
        key = secrets.token_hex(8)
        links = self.queues[key] = queue.Queue()
        if self.host is None or self.listener is None:
            link, invitation = invite_child()
            links.put(link)
            return invitation._replace(key=key)
        return Invitation(None, self.host, self.listener.getsockname()[1], self.token, key)

    def links_of(self, invitation: Invitation) -> "queue.Queue[Link | None]":
        """The queue of the links that connect with this invitation; the owner puts None there to end it."""
        return self.queues[invitation.key]

    def _listen(self, listener: socket.socket) -> None:
        while listener.fileno() >= 0:  # until it is closed
            try:
                connection, _ = listener.accept()
            except OSError:  # the caller closed the connection, or this process has too many open files
                time.sleep(_RETRY_SECONDS)
                continue
            threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def _admit(self, connection: socket.socket) -> None:
        connection.settimeout(_HANDSHAKE_SECONDS)
        link = Link(connection)
        try:
            key = self._check_caller(link)
        except (NotAuthorized, InvalidMessage, OSError):
            link.close()
        else:
            connection.settimeout(None)
            self.queues[key].put(link)

    def _check_caller(self, link: Link) -> str:
        """The key of a caller that has proved the secret. Raises `NotAuthorized`, `InvalidMessage` and `OSError`."""
        nonce = secrets.token_hex(16)
        link.send("prove", nonce=nonce)
        hello = link.receive_handshake()
        key = str(hello.get("key"))
        if not _is_proof(hello.get("proof"), self.token, f"worker {key}", nonce):
            raise NotAuthorized("wrong secret")
        if key not in self.queues:
            raise NotAuthorized(f"no invitation has the key {key}")
        link.send("welcome", proof=_prove(self.token, "driver", str(hello.get("nonce"))))
        return key

    def close(self) -> None:
        if self.listener is not None:
            with suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
