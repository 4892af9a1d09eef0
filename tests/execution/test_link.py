"""Lines of JSON between two processes: what arrives, who may connect, and what ends a link."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sweeplab.execution import link as module
from sweeplab.execution.link import InvalidMessage, Invitation, Link, NotAuthorized, Reception, connect, invite_child


@pytest.fixture
def reception() -> Iterator[Reception]:
    one = Reception("127.0.0.1")
    yield one
    one.close()


def test_only_who_knows_the_secret_is_heard(reception: Reception) -> None:
    invitation = reception.invite()
    links = reception.links_of(invitation)
    for token, key in (("wrong", invitation.key), (reception.token, "b")):
        with pytest.raises(NotAuthorized):
            connect(invitation._replace(token=token, key=key))
    with socket.create_connection((invitation.host, invitation.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        asked = stranger.makefile("rb").read()  # up to the end: it is hung up on
    assert [json.loads(line)["kind"] for line in asked.splitlines()] == ["prove"]
    assert reception.token.encode() not in asked
    link = connect(invitation)
    there = links.get(timeout=60)
    assert there is not None
    assert links.empty()
    link.send("hello", text="über\n")
    assert next(there.messages()) == {"kind": "hello", "text": "über\n"}
    there.close()
    assert list(link.messages()) == []
    link.close()


def test_a_reception_outlives_a_caller_that_cannot_be_taken(
    reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = socket.socket.accept
    failed: list[Any] = []

    def once(listener: socket.socket) -> Any:
        if not failed:
            failed.append(listener)
            raise OSError(24, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", once)
    invitation = reception.invite()
    for _ in range(2):  # the listener was waiting in the plain `accept` for the first
        connect(invitation).close()
        there = reception.links_of(invitation).get(timeout=60)
        assert there is not None
        there.close()
    assert failed


def test_a_driver_that_does_not_know_the_secret_is_not_obeyed() -> None:
    """A proof is of its role and of the worker's own nonce, so that one that was overheard proves nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def impostor() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as stream:
                stream.write('{"kind": "prove", "nonce": "0"}\n')
                stream.flush()
                hello = json.loads(stream.readline())
                stream.write(json.dumps({"kind": "welcome", "proof": hello["proof"]}) + "\n")

        thread = threading.Thread(target=impostor)
        thread.start()
        with pytest.raises(NotAuthorized, match=re.escape("is not the driver of this job")):
            connect(Invitation(None, "127.0.0.1", server.getsockname()[1], "secret", "a"))
        thread.join()


@pytest.mark.parametrize("line", [b"", b"null\n", b"{}\n", b"[" * 100_000, b"x" * 20_000])
def test_a_stranger_in_the_driver_s_place_is_no_driver(line: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(line)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises((NotAuthorized, ConnectionError)):
            connect(Invitation(None, "127.0.0.1", server.getsockname()[1], "secret", "a"))
        thread.join()


def test_a_caller_that_says_nothing_is_hung_up_on_and_keeps_nobody_waiting(
    reception: Reception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HANDSHAKE_SECONDS", 0.5)
    invitation = reception.invite()
    started = time.monotonic()
    with socket.create_connection((invitation.host, invitation.port)) as silent:
        link = connect(invitation)
        there = reception.links_of(invitation).get(timeout=60)
        assert there is not None
        assert silent.makefile("rb").read().count(b"\n") == 1  # the challenge, then the end
    assert time.monotonic() - started < 200
    time.sleep(1)  # longer than a handshake may take: the one that was admitted may be silent
    there.send("open")
    assert next(link.messages()) == {"kind": "open"}
    link.close()
    there.close()


def test_a_closed_reception_takes_nobody() -> None:
    reception = Reception("127.0.0.1")
    invitation = reception.invite()
    reception.close()
    with pytest.raises(OSError, match="refused"):
        connect(invitation)


def test_half_a_line_is_no_message_and_a_whole_one_of_any_length_is() -> None:
    ours, invitation = invite_child()
    theirs = connect(invitation)
    text = "x" * 3_000_000
    sender = threading.Thread(target=lambda: theirs.send("long", text=text))
    sender.start()
    messages = ours.messages()
    assert next(messages) == {"kind": "long", "text": text}
    sender.join()
    theirs.socket.sendall(b'{"kind": "ended"')
    theirs.close()
    assert list(messages) == []
    ours.send("verdict")  # nobody is there, and nothing happens
    ours.close()


def test_what_is_no_message_is_shown_but_never_run() -> None:
    ours, invitation = invite_child()
    theirs = connect(invitation)
    theirs.socket.sendall(b"\x80\x04\x95pickle\n")
    with pytest.raises(InvalidMessage, match="pickle"):
        next(ours.messages())
    ours.close()
    theirs.close()


def test_a_side_that_has_finished_still_receives() -> None:
    ours, invitation = invite_child()
    theirs = connect(invitation)
    ours.finish()
    assert list(theirs.messages()) == []
    theirs.send("gone")
    theirs.close()
    assert [message["kind"] for message in ours.messages()] == ["gone"]
    ours.close()


def test_threads_do_not_mix_their_lines() -> None:
    ours, invitation = invite_child()
    theirs = connect(invitation)

    def send_fifty(number: int) -> None:
        for _ in range(50):
            theirs.send("n", number=number, pad="p" * 999)

    senders = [threading.Thread(target=send_fifty, args=(number,)) for number in range(8)]
    for sender in senders:
        sender.start()
    messages = ours.messages()
    received = [next(messages)["number"] for _ in range(400)]
    for sender in senders:
        sender.join()
    assert {number: received.count(number) for number in range(8)} == dict.fromkeys(range(8), 50)
    theirs.close()
    ours.close()


CHILD = """
import sys
from sweeplab.execution.link import connect_from_stdin
link = connect_from_stdin()
print("a stray line")
sys.stderr.write("{")
link.send("hello")
print(*(message["kind"] for message in link.messages()))
"""


def test_only_the_child_that_inherits_it_has_the_other_end() -> None:
    """And its prints are no messages."""
    link, invitation = invite_child()
    assert invitation.descriptor is not None
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=-1, stdout=-1, stderr=-1, text=True, pass_fds=[invitation.descriptor]
    ) as child:
        os.close(invitation.descriptor)
        assert child.stdin is not None
        child.stdin.write(json.dumps(invitation) + "\n")
        child.stdin.flush()
        with subprocess.Popen(["sleep", "600"]) as other:  # it must not keep the link open
            messages = link.messages()
            assert next(messages) == {"kind": "hello"}
            link.send("open")
            link.finish()
            assert list(messages) == []
            other.kill()
        out, err = child.communicate(timeout=200)
    assert (out, err) == ("a stray line\nopen\n", "{")
    link.close()
    assert isinstance(link, Link)


FORKING = """
import os, sys
from sweeplab.execution.link import connect_from_stdin
link = connect_from_stdin()
if os.fork() == 0:
    os.read(int(sys.argv[1]), 1)  # lives on without its parent
    os._exit(0)
link.send("forked")
"""


def test_what_a_process_forks_does_not_keep_its_link_open() -> None:
    link, invitation = invite_child()
    assert invitation.descriptor is not None
    waits, release = os.pipe()
    inherited = [invitation.descriptor, waits]
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, str(waits)], stdin=-1, text=True, pass_fds=inherited
    ) as process:
        os.close(invitation.descriptor)
        process.communicate(json.dumps(invitation) + "\n", timeout=60)
    link.socket.settimeout(20)  # raises where the child has a copy
    received = b""
    while part := link.socket.recv(4096):
        received += part
    assert json.loads(received) == {"kind": "forked"}
    for descriptor in (release, waits):
        os.close(descriptor)
    link.close()
