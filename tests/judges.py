"""A stand-in for a judge behind an OpenAI-compatible address, on the loopback, that decides as a test tells it."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final

Decide = Callable[[str, str, str], str]  # request, first response, second response -> what the judge says
_PART: Final = r"<{0}>\n(.*?)\n</{0}>"


class StandinJudge:
    """What it was asked, and how it answers."""

    def __init__(self, decide: Decide) -> None:
        self.decide = decide
        self.url = ""
        self.asked: list[tuple[str, str, str]] = []  # that were answered
        self.bodies: list[dict[str, Any]] = []
        self.failures: list[int] = []  # states that the next requests are answered with instead
        self.key: str | None = None  # that it wants
        self.break_after: int | None = None  # answers, after which it refuses every request
        self.lock = Lock()

    def answer(self, body: dict[str, Any], key: str | None) -> tuple[int, str]:
        """State and content."""
        with self.lock:
            if self.failures:
                return self.failures.pop(0), "not now"
            if self.key is not None and key != f"Bearer {self.key}":
                return 401, f"wrong key: {key}"
            if self.break_after is not None and len(self.asked) >= self.break_after:
                return 403, "no more"
            prompt = body["messages"][0]["content"]
            found = [
                re.search(_PART.format(name), prompt, re.DOTALL) for name in ("request", "response_A", "response_B")
            ]
            request, first, second = (one[1] if one else "" for one in found)
            self.asked.append((request, first, second))
            self.bodies.append(body)
            text = self.decide(request, first, second)
        return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@contextmanager
def standin_judge(decide: Decide) -> Iterator[StandinJudge]:
    """Within it the judge answers at `url`."""
    judge = StandinJudge(decide)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state, text = (404, "no such path")
            if self.path == "/v1/chat/completions":
                state, text = judge.answer(body, self.headers.get("Authorization"))
            self.send_response(state)
            if state == 307:
                self.send_header("Location", self.path)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
