"""As much of W&B's API as a run, an artifact and a view need, on loopback; it keeps all that it is told."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

KEY: Final = "0123456789abcdef" * 3
ENTITY: Final = "someone"
USER: Final = {"id": "U", "entity": ENTITY, "username": ENTITY, "email": "a@b.c", "flags": "{}"}
Values = dict[str, Any]


class Told:
    """What the server has received."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: dict[str, Values] = {}  # by id: what upsertBucket said, the last word of each
        self.history: dict[str, dict[int, Values]] = {}
        self.summary: dict[str, Values] = {}
        self.exit_codes: dict[str, int] = {}
        self.artifacts: list[Values] = []
        self.artifact_files: list[str] = []
        self.stored: dict[str, bytes] = {}  # by path
        self.views: list[Values] = []
        self.bodies: list[bytes] = []
        self.keys: set[str] = set()

    def run_named(self, name: str) -> str:
        (found,) = [run for run, said in self.runs.items() if said["displayName"] == name]
        return found

    def answer(self, query: str, said: Values, host: str) -> Values:
        """The data of a GraphQL query."""
        if "upsertBucket(" in query:
            return {"upsertBucket": {"bucket": self.bucket(said), "inserted": True}}
        if "createRunFiles(" in query:
            files = [{"name": one, "uploadUrl": f"{host}/storage/{said['run']}/{one}"} for one in said["files"]]
            return {"createRunFiles": {"runID": "R", "uploadHeaders": [], "files": files}}
        if "createArtifactManifest(" in query:
            file = {"id": "F", "uploadUrl": f"{host}/storage/manifest", "uploadHeaders": []}
            return {"createArtifactManifest": {"artifactManifest": {"id": "M", "file": file}}}
        if "createArtifactFiles(" in query:
            return {"createArtifactFiles": {"files": {"edges": self.places(said["input"]["artifactFiles"], host)}}}
        if "createArtifact(" in query:
            self.artifacts.append(said.get("input", said))
            sequence = {"id": "S", "latestArtifact": None}
            return {"createArtifact": {"artifact": {"id": "A", "state": "PENDING", "artifactSequence": sequence}}}
        if "commitArtifact(" in query:
            return {"commitArtifact": {"artifact": {"id": "A", "digest": "D"}}}
        if "upsertView(" in query:
            self.views.append(said)
            place = {"id": "P", "name": said["projectName"], "entityName": said["entityName"]}
            view = {"id": f"V{len(self.views)}", "name": said["name"], "displayName": said["displayName"]}
            return {"upsertView": {"view": {**view, "description": "", "project": place, "spec": said["spec"]}}}
        if "models(" in query:
            return {
                "models": {"pageInfo": {"__typename": "PageInfo", "hasNextPage": False, "endCursor": None}, "edges": []}
            }
        if "viewer" in query:
            return {"viewer": {**USER, "teams": {"edges": []}}}
        return {"project": {"artifact": None}}  # of what type an artifact of this name is: there is none

    def bucket(self, said: Values) -> Values:
        kept = self.runs.setdefault(said["name"], {})
        kept |= {key: value for key, value in said.items() if value is not None}
        project = {"id": "P", "name": said["project"], "entity": {"id": "E", "name": ENTITY}}
        names = {"id": f"id-{said['name']}", "name": said["name"], "displayName": kept["displayName"]}
        return {
            **names,
            "description": None,
            "config": None,
            "sweepName": None,
            "project": project,
            "historyLineCount": 0,
        }

    def places(self, files: list[Values], host: str) -> list[Values]:
        self.artifact_files += [one["name"] for one in files]
        return [
            {
                "node": {
                    "storagePath": one["name"],
                    "uploadUrl": f"{host}/storage/artifact/{one['name']}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": "A"},
                }
            }
            for one in files
        ]

    def streamed(self, run: str, said: Values) -> None:
        """A piece of a run's history and summary, and how it ended."""
        for name, part in said.get("files", {}).items():
            for line in map(json.loads, part["content"]):
                if name == "wandb-history.jsonl":
                    self.history.setdefault(run, {}).setdefault(line["_step"], {}).update(line)
                elif name == "wandb-summary.json":
                    self.summary[run] = line
        if said.get("complete"):
            self.exit_codes[run] = said["exitcode"]


def handler(told: Told) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            answer: Values = {}
            with told.lock:
                told.bodies.append(body)
                told.keys.add(self.headers.get("Authorization") or "")
                if self.path == "/graphql":
                    asked = json.loads(body)
                    host = f"http://{self.headers['Host']}"
                    answer = {"data": told.answer(asked["query"], asked.get("variables") or {}, host)}
                elif self.path.endswith("/file_stream"):
                    told.streamed(self.path.split("/")[-2], json.loads(body))
                elif self.path.startswith("/storage/"):
                    told.stored[self.path.removeprefix("/storage/")] = body
            self.reply(json.dumps(answer).encode())

        def reply(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = handle_any

    return Handler


class Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serving(told: Told) -> Iterator[str]:
    """The server's address; it goes away at the end."""
    server = Server(("127.0.0.1", 0), handler(told))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
