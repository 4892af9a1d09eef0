"""Texts and keys go over encrypted connections, or nowhere beyond this machine."""

import pytest

from sweeplab.runtime.addresses import is_on_loopback, is_safe_address


@pytest.mark.parametrize(
    "url",
    [
        "https://judge.example/v1",
        "https://judge.example:8443",
        "https://10.0.0.1/v1/",
        "http://localhost:8000/v1",
        "http://127.0.0.1/v1",
        "http://127.9.9.9:1/v1",
        "http://[::1]:8000/v1",
    ],
)
def test_these_are_safe(url: str) -> None:
    assert is_safe_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://judge.example/v1",
        "http://10.0.0.1/v1",
        "http://localhost.example/v1",
        "http://127.0.0.1.example/v1",
        "http://127.0.0.1@judge.example/v1",
        "http://0.0.0.0:80/v1",
        "http://[::2]/v1",
        "https://me:secret@judge.example/v1",
        "https://judge.example/v1?key=secret",
        "https://judge.example/v1#a",
        "https://judge.example/v 1",
        "https://judge.example/\nv1",
        "https://judge.example:99999/v1",
        "https:///v1",
        "ftp://judge.example",
        "judge.example",
        "",
    ],
)
def test_these_are_not(url: str) -> None:
    assert not is_safe_address(url)


def test_a_name_is_of_this_machine_where_it_is_known_to_be() -> None:
    assert [is_on_loopback(one) for one in ("https://localhost", "https://judge.example", "no")] == [True, False, False]
