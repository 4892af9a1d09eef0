"""Who runs which trial of a study: one driver alone, or several that share a PostgreSQL database.

Several drivers ask one at a time, under an advisory lock. Each trial that runs has a lease, a row with its holder and
its end by the database's clock. Whoever finds one that has ended may take it over; one statement decides who does.
"""

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from optuna.storages import RDBStorage

from sweeplab.search.mirror import MirroredStorage

if TYPE_CHECKING:
    import psycopg

CONNECT_SECONDS: Final = 10
TABLE: Final = """CREATE TABLE IF NOT EXISTS sweeplab_leases (
    study text, number integer, holder text NOT NULL, ends timestamptz NOT NULL, PRIMARY KEY (study, number))"""
TAKE: Final = """INSERT INTO sweeplab_leases VALUES
    (%(study)s, %(number)s, %(holder)s, now() + %(seconds)s * interval '1s')
    ON CONFLICT (study, number) DO UPDATE SET holder = excluded.holder, ends = excluded.ends
    WHERE sweeplab_leases.ends < now() OR sweeplab_leases.holder = excluded.holder RETURNING number"""
RENEW: Final = """UPDATE sweeplab_leases SET ends = now() + %(seconds)s * interval '1s'
    WHERE study = %(study)s AND holder = %(holder)s RETURNING number"""
CONFIRM: Final = f"{RENEW.removesuffix(' RETURNING number')} AND number = %(number)s RETURNING number"
HELD: Final = "SELECT number FROM sweeplab_leases WHERE study = %(study)s AND ends >= now()"
RELEASE: Final = "DELETE FROM sweeplab_leases WHERE study = %(study)s AND holder = %(holder)s RETURNING number"
RELEASE_ONE: Final = f"{RELEASE.removesuffix(' RETURNING number')} AND number = %(number)s RETURNING number"
LOCK: Final = "SELECT pg_advisory_lock(hashtextextended('sweeplab ' || %(study)s, 0))"
UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended('sweeplab ' || %(study)s, 0))"


class Drivers(Protocol):
    """What a search needs to know of a study's drivers."""

    poll_seconds: float  # between looks at what the others do

    def asking(self) -> AbstractContextManager[None]:
        """Within it no other driver asks, and what is new is kept at its end."""

    def take(self, number: int) -> bool:
        """True where this driver may run the trial, and nobody else until it ends or the lease does."""

    def free(self, numbers: set[int]) -> list[int]:
        """Of trials that run elsewhere or nowhere, those that nobody holds."""

    def holds(self, number: int) -> bool:
        """True where the trial is still this driver's; it stays so for a lease's time."""

    def release(self, number: int) -> None:
        """The trial has ended."""

    def close(self) -> None:
        """Lets go of everything."""


class Alone:
    """The only driver: a trial that runs and is not its own has been left by an earlier one."""

    poll_seconds = 0.0

    def __init__(self, storage: MirroredStorage) -> None:
        self.storage = storage

    @contextmanager
    def asking(self) -> Iterator[None]:
        yield
        self.storage.keep()

    def take(self, number: int) -> bool:
        return True

    def free(self, numbers: set[int]) -> list[int]:
        return sorted(numbers)

    def holds(self, number: int) -> bool:
        return True

    def release(self, number: int) -> None:
        pass

    def close(self) -> None:
        self.storage.database.remove_session()
        self.storage.database.engine.dispose()


def returned(connection: "psycopg.Connection[tuple[Any, ...]]", statement: str, values: dict[str, Any]) -> list[int]:
    """The first column."""
    return [int(row[0]) for row in connection.execute(statement.encode(), values)]


class Leases:
    """One of several drivers of `study`; a thread renews its leases, each `seconds` long."""

    def __init__(self, url: str, study: str, seconds: float) -> None:
        """Raises `psycopg.Error` where the server cannot be reached or refuses."""
        self.url = url
        self.poll_seconds = min(1.0, seconds / 4)
        self.known: dict[str, Any] = {
            "study": study,
            "seconds": seconds,
            "holder": f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
        }
        self.asker = self.connected()  # its own connection: the advisory lock belongs to it
        self.connection = self.connected()
        self.storage: RDBStorage | None = None  # whose connections are closed with these
        self.mutex = threading.Lock()  # of `connection`, which two threads use
        self.closed = threading.Event()
        with self.asking():
            self.connection.execute(TABLE.encode())
        self.renewer = threading.Thread(target=self.renew, args=(seconds / 4,), daemon=True)
        self.renewer.start()

    def connected(self) -> "psycopg.Connection[tuple[Any, ...]]":
        import psycopg

        return psycopg.connect(self.url, autocommit=True, connect_timeout=CONNECT_SECONDS)

    def numbers(self, statement: str, **values: Any) -> list[int]:
        """Trials that a statement returns; on a new connection where the server has closed the old one."""
        import psycopg

        with self.mutex:
            try:
                return returned(self.connection, statement, self.known | values)
            except psycopg.OperationalError:
                if not self.connection.closed:
                    raise
                self.connection = self.connected()
                return returned(self.connection, statement, self.known | values)

    def renew(self, interval: float) -> None:
        """Goes on where the server is away for a while: a lease that ends meanwhile is anybody's."""
        import psycopg

        while not self.closed.wait(interval):
            try:
                self.numbers(RENEW)
            except psycopg.OperationalError:
                continue

    @contextmanager
    def asking(self) -> Iterator[None]:
        import psycopg

        try:
            self.asker.execute(LOCK.encode(), self.known)
        except psycopg.OperationalError:
            if not self.asker.closed:
                raise
            self.asker = self.connected()
            self.asker.execute(LOCK.encode(), self.known)
        try:
            yield
        finally:
            with suppress(psycopg.OperationalError):  # the server has ended the connection, and the lock with it
                self.asker.execute(UNLOCK.encode(), self.known)

    def take(self, number: int) -> bool:
        return bool(self.numbers(TAKE, number=number))

    def free(self, numbers: set[int]) -> list[int]:
        return sorted(numbers.difference(self.numbers(HELD))) if numbers else []

    def holds(self, number: int) -> bool:
        return bool(self.numbers(CONFIRM, number=number))

    def release(self, number: int) -> None:
        self.numbers(RELEASE_ONE, number=number)

    def close(self) -> None:
        import psycopg

        self.closed.set()
        self.renewer.join()
        with suppress(psycopg.OperationalError):  # the server is away: leases end by themselves
            self.numbers(RELEASE)
        self.connection.close()
        self.asker.close()
        if self.storage is not None:
            self.storage.remove_session()
            self.storage.engine.dispose()
