"""A PostgreSQL server of the distribution's own package, in a folder of its own, on a port of the loopback."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PASSWORD: Final = "a/secret:word"
SETTINGS: Final = ("fsync=off", "listen_addresses=127.0.0.1", "max_connections=60")  # nothing here outlives a test


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "pg_ctl").exists() else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """PostgreSQL refuses to run as root: there it runs as the user that its package made."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.port = free_port()
        self.user = "postgres" if os.geteuid() == 0 else None

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), "-D", str(self.folder / "data"), *arguments]
        log = self.folder / "commands.log"
        with log.open("a") as stream:
            subprocess.run(command, user=self.user, stdout=stream, stderr=stream, cwd=self.folder, check=True)

    def start(self) -> None:
        said = " ".join(
            f"-c {one}" for one in (*SETTINGS, f"port={self.port}", f"unix_socket_directories={self.folder}")
        )
        self.run("pg_ctl", "-w", "-l", str(self.folder / "server.log"), "-o", said, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-m", "immediate", "stop")

    def url(self, database: str = "postgres", password: str = "") -> str:
        return f"postgresql://tester{password}@127.0.0.1:{self.port}/{database}"


@contextmanager
def serving(programs: Path) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = Server(programs, folder)
    try:
        (folder / "password").write_text(PASSWORD)
        if server.user is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, server.user)
        server.run("initdb", "-U", "tester", "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "-N")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
