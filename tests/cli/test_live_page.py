"""The server: it serves this machine only, to who has the token, and a press must come from its own page."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestServer

from sweeplab.cli.live_page import build_application
from sweeplab.cli.live_view import LiveView
from sweeplab.records.wishes import StopTrial, read_wishes
from tests.cli.studies import make_study
from tests.study_runs import MOST_SECONDS, running, wait_until

TOKEN = "t0ken"
Act = Callable[[ClientSession, str], Awaitable[Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_study(tmp_path / "runs" / "single")


def serve(folder: Path, act: Act) -> Any:
    """What `act` gives, called with a client and the address of the page's server."""

    async def run() -> Any:
        async with TestServer(build_application(LiveView(folder), TOKEN)) as server, ClientSession() as client:
            return await act(client, f"http://127.0.0.1:{server.port}")

    return asyncio.run(run())


async def press(
    client: ClientSession, address: str, headers: dict[str, str], body: str | None = None
) -> tuple[int, str]:
    asked = body if body is not None else json.dumps({"ask": "stop_trial", "trial": 2})
    async with client.post(f"{address}/{TOKEN}/ask", data=asked, headers=headers) as answer:
        return answer.status, await answer.text()


def test_the_page_its_state_and_its_scripts_are_served_with_headers_that_allow_nothing_else(folder: Path) -> None:
    async def act(client: ClientSession, address: str) -> list[tuple[ClientResponse, str]]:
        names = ("", "state", "live.js", "report.js")
        answers = [await client.get(f"{address}/{TOKEN}/{name}") for name in names]
        return [(one, await one.text()) for one in answers]

    answers = serve(folder, act)
    kinds = ["text/html", "application/json", "text/javascript", "text/javascript"]
    assert [(one.status, one.content_type) for one, _ in answers] == [(200, kind) for kind in kinds]
    for one, _ in answers:
        policy = one.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert one.headers["Referrer-Policy"] == "no-referrer"
        assert one.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in one.headers
    assert "Which rank?" in answers[0][1]
    assert json.loads(answers[1][1])["phase"] == "stopped"


@pytest.mark.parametrize("path", ["/", "/wrong/", f"/{TOKEN}", f"/{TOKEN}x/state", "/wrong/live.js", f"/{TOKEN}/runs"])
def test_without_the_token_there_is_nothing(path: str, folder: Path) -> None:
    async def act(client: ClientSession, address: str) -> tuple[int, str]:
        async with client.get(f"{address}{path}") as answer:
            return answer.status, await answer.text()

    status, text = serve(folder, act)
    assert status == 404
    assert "rank" not in text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:80", 200),
        ("localhost:9000", 200),  # forwarded from another port, as by ssh -L
        ("[::1]:80", 200),
        ("localhost", 200),
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("localhost.evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.0.7:80", 403),
        ("evil.example:127.0.0.1", 403),
    ],
)
def test_a_name_that_is_made_to_lead_here_is_refused(host: str, status: int, folder: Path) -> None:
    async def act(client: ClientSession, address: str) -> int:
        async with client.get(f"{address}/{TOKEN}/state", headers={"Host": host}) as answer:
            return answer.status

    assert serve(folder, act) == status


def test_a_press_comes_from_the_page_itself(folder: Path) -> None:
    as_json = {"Content-Type": "application/json"}

    async def act(client: ClientSession, address: str) -> dict[str, tuple[int, str]]:
        own = as_json | {"Origin": address}
        return {
            "no origin": await press(client, address, as_json),
            "another site": await press(client, address, as_json | {"Origin": "http://evil.example"}),
            "another port": await press(client, address, as_json | {"Origin": "http://127.0.0.1:1"}),
            "null": await press(client, address, as_json | {"Origin": "null"}),
            "cross-site": await press(client, address, own | {"Sec-Fetch-Site": "cross-site"}),
            "a form": await press(client, address, {"Origin": address, "Content-Type": "text/plain"}),
            "too long": await press(client, address, own, json.dumps({"ask": "x" * 20_000})),
            "no json": await press(client, address, own, "{"),
            "unknown trial": await press(client, address, own, json.dumps({"ask": "stop_trial", "trial": 99})),
            "nothing": await press(client, address, own, json.dumps({"ask": "delete"})),
        }

    answers = serve(folder, act)
    codes = {name: status for name, (status, _) in answers.items()}
    refused = ("no origin", "another site", "another port", "null", "cross-site", "a form")
    assert {name: codes[name] for name in refused} == dict.fromkeys(refused, 403)
    assert (codes["too long"], codes["no json"], codes["unknown trial"], codes["nothing"]) == (413, 400, 409, 409)
    assert answers["unknown trial"][1].startswith("trial=99 is not there; ")
    assert read_wishes(folder)[0] == []


def test_a_press_of_the_page_is_done_and_answered_in_a_line(folder: Path) -> None:
    async def act(client: ClientSession, address: str) -> tuple[int, str]:
        own = {"Content-Type": "application/json", "Origin": address, "Sec-Fetch-Site": "same-origin"}
        return await press(client, address, own)

    assert serve(folder, act) == (200, "Trial 2 ends when the study goes on, and is not trained further.")
    assert read_wishes(folder)[0] == [StopTrial(2)]


def test_reading_needs_no_press_and_a_press_is_no_reading(folder: Path) -> None:
    async def act(client: ClientSession, address: str) -> list[int]:
        asked = [
            await client.get(f"{address}/{TOKEN}/ask"),
            await client.post(f"{address}/{TOKEN}/state", json={}, headers={"Origin": address}),
        ]
        return [one.status for one in asked]

    assert serve(folder, act) == [405, 405]


def test_the_command_prints_an_address_of_the_loopback_that_nobody_can_guess(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweeplab", "study.name=single", "action=watch", "watch.page=true"]
    with running(command, tmp_path, PYTHONUNBUFFERED="1") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"page  (http://127\.0\.0\.1:\d+/)([\w-]{32})/\n", line)
        assert found is not None, line

        async def read() -> int:
            async with ClientSession() as client, client.get(f"{found[1]}{found[2]}/state") as answer:
                return answer.status

        wait_until(lambda: asyncio.run(read()) == 200)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == 130
