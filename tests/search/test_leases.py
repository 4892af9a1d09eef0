"""Several drivers on one study: leases, asking in turn, and what is said where the database is not there."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import psutil
import psycopg
import pytest

from sweeplab.records.record import Status
from sweeplab.records.store import read_facts, read_records
from sweeplab.runtime.errors import ConfigError
from sweeplab.search.leases import Leases
from tests.search.postgres import PASSWORD, Server, programs, serving
from tests.study_runs import QUICK, WITH_STANDIN, Open, Standin, asked_for, record_of, run, running, wait_until

SECONDS: Final = 0.5
SPACE: Final = ("sampler=random", "++space.optimizer.lr={low: 1e-5, high: 1e-1, log: true}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with serving(found) as running_server:
        yield running_server


@pytest.fixture
def database(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty database, without the password, which stands in the environment."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    name = f"test_{time.monotonic_ns()}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.url(name)


@pytest.fixture
def leases(database: str) -> Iterator[list[Leases]]:
    """Three drivers of one study; the third one's leases are not renewed, as if it had been killed."""
    with ExitStack() as stack:
        drivers = [stack.enter_context(closing(Leases(database, "study", SECONDS))) for _ in range(3)]
        drivers[2].closed.set()
        drivers[2].renewer.join()
        yield drivers


def test_a_trial_has_one_holder_until_its_lease_ends(leases: list[Leases]) -> None:
    one, other, killed = leases
    assert one.take(0)
    assert killed.take(1)
    assert not other.take(0)
    assert not other.take(1)
    assert other.free({0, 1, 2}) == [2]
    wait_until(lambda: other.free({0, 1, 2}) == [1, 2])
    assert other.take(1)
    assert not killed.holds(1)
    assert (one.holds(0), other.holds(1), other.holds(0)) == (True, True, False)
    one.release(0)
    assert other.free({0, 1}) == [0]


def test_exactly_one_of_many_takes_what_was_left(leases: list[Leases], database: str) -> None:
    for number in range(20):
        assert leases[2].take(number)
    wait_until(lambda: len(leases[0].free(set(range(20)))) == 20)
    with ExitStack() as stack:
        drivers = [stack.enter_context(closing(Leases(database, "study", 60.0))) for _ in range(6)]
        won: list[list[int]] = [[] for _ in drivers]

        def grab(place: int) -> None:
            won[place] = [number for number in range(20) if drivers[place].take(number)]

        threads = [threading.Thread(target=grab, args=(place,)) for place in range(len(drivers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(number for numbers in won for number in numbers) == list(range(20))


def test_drivers_ask_one_at_a_time(leases: list[Leases]) -> None:
    inside, most = 0, 0

    def ask(driver: Leases) -> None:
        nonlocal inside, most
        for _ in range(20):
            with driver.asking():
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=ask, args=(driver,)) for driver in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_leases_outlive_a_restart_of_the_server(leases: list[Leases], server: Server) -> None:
    assert leases[0].take(0)
    server.stop()
    server.start()
    assert leases[0].holds(0)
    assert not leases[1].take(0)
    with leases[1].asking():
        pass


def test_two_searches_share_a_study(open_search: Open, database: str) -> None:
    """Asked in turn they draw what one driver draws alone, seeds of one point for both."""
    overrides = (*SPACE, "study.num_trials=8", "study.seeds=[0,1]")
    alone = run(open_search(*overrides))
    shared = (*overrides, f"study.storage={database}", "study.lease_seconds=60")
    one, other = open_search(*shared), open_search(*shared)
    with closing(one.drivers), closing(other.drivers):
        asked = []
        for place in range(8):
            search = (one, other)[place % 2]
            trial = next(search.asked())
            search.tell(record_of(trial))
            asked.append(trial)
        assert asked_for(asked) == asked_for(alone)
        assert next(one.asked(), None) is next(other.asked(), None) is None
        assert not one.wait_for_others()


def test_a_trial_that_was_taken_over_is_not_told_twice(open_search: Open, database: str) -> None:
    shared = (*SPACE, "study.num_trials=1", f"study.storage={database}", f"study.lease_seconds={SECONDS}")
    slow, quick = open_search(*shared), open_search(*shared)
    with closing(slow.drivers), closing(quick.drivers):
        trial = next(slow.asked())
        slow.drivers.closed.set()  # type: ignore[attr-defined]  # its computer is away for a while
        assert next(quick.asked(), None) is None
        assert quick.wait_for_others()
        assert next(quick.asked()) == trial
        assert quick.holds(0)
        assert not slow.holds(0)
        slow.give_up(0)
        quick.tell(record_of(trial, 2.5))
        slow.tell(record_of(trial, 7.0))
        assert quick.study.trials[0].values == [2.5]
        assert not slow.wait_for_others()


def test_what_is_wrong_with_a_database_is_said_in_a_line(
    open_search: Open, server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url("nowhere", f":{PASSWORD.replace('/', '%2F').replace(':', '%3A')}")
    for address, cause in (
        (url, 'database "nowhere" does not exist'),
        (url.replace(f":{server.port}/", ":1/"), "[Cc]onnection refused"),
        (database.replace("tester", "stranger"), "authentication failed"),
    ):
        with pytest.raises(
            ConfigError, match=rf"^study\.storage=postgresql://.*{cause}.*; start the server"
        ) as refused:
            open_search(*SPACE, "study.num_trials=1", f"study.storage='{address}'")
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(
        ConfigError, match=r"^study\.storage must be null or the address of a PostgreSQL database, got m"
    ):
        open_search(*SPACE, "study.num_trials=1", "study.storage='mysql://x/y'")
    monkeypatch.setattr("sweeplab.search.storage.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^study\.storage needs the package psycopg; pip install .*\[postgres\]"):
        open_search(*SPACE, "study.num_trials=1", f"study.storage={database}")


def test_a_study_whose_server_goes_away_stops_with_one_line_and_goes_on(
    server: Server, database: str, standin: Standin, tmp_path: Path
) -> None:
    standin.plan(seconds=0.3)
    secret = f":{PASSWORD.replace('/', '%2F').replace(':', '%3A')}@"
    command = (
        *SPACE,
        "study.num_trials=8",
        "study.lease_seconds=1",
        f"study.storage='{database.replace('@', secret)}'",
    )
    with standin.cli(tmp_path, *command) as driver:
        wait_until(lambda: len(standin.given()) == 3)
        server.stop()
        out, err = driver.communicate(timeout=60)
    server.start()
    assert driver.returncode == 2, err
    assert err.startswith("sweeplab: postgresql://tester:***@127.0.0.1:"), err
    assert err.count("\n") == 1
    assert "cannot be written: " in err
    assert "secret" not in out + err
    standin.plan()
    code, out, err = standin.run_cli(tmp_path, *command)
    assert (code, err) == (0, ""), err
    assert [record.status for record in read_records(tmp_path / "runs" / "single")] == [Status.FINISHED] * 8


def test_four_drivers_share_a_hundred_trials_and_one_is_killed(
    server: Server, database: str, standin: Standin, tmp_path: Path
) -> None:
    """None is lost, none is doubled, and what the killed driver had is run once more by one of the others."""
    standin.plan(seconds=0.05, hang_once=[10])
    secret = f":{PASSWORD.replace('/', '%2F').replace(':', '%3A')}@"
    study = [*QUICK, *SPACE, "study.num_trials=100", "study.lease_seconds=2"]
    command = [sys.executable, "-c", WITH_STANDIN, *study, f"study.storage='{database.replace('@', secret)}'"]
    folder = tmp_path / "runs" / "single"
    with ExitStack() as stack:
        drivers = [stack.enter_context(running(command, tmp_path, STANDIN=str(standin.program))) for _ in range(4)]
        wait_until((standin.folder / "died-10").exists)  # it hangs from then on, for its first worker
        worker = next(psutil.Process(one["pid"]) for one in standin.given() if one["number"] == 10)
        killed = next(driver for driver in drivers if driver.pid == worker.ppid())
        killed.kill()
        worker.kill()
        drivers.remove(killed)
        said = [driver.communicate(timeout=120) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0, 0], said
    records = read_records(folder)
    assert [record.number for record in records] == list(range(100))
    assert {record.status for record in records} == {Status.FINISHED}
    assert len({json.dumps(record.params) for record in records}) == 100
    assert Counter(standin.numbers()) == Counter([*range(100), 10])
    assert len({one["pid"] for one in standin.given()}) == 4
    with psycopg.connect(database) as connection:
        states = connection.execute("SELECT state, count(*) FROM trials GROUP BY state").fetchall()
        assert states == [("COMPLETE", 100)]
        assert connection.execute("SELECT count(*) FROM sweeplab_leases").fetchone() == (0,)
    facts = read_facts(folder)
    assert facts is not None
    assert "tester:***@127.0.0.1" in facts.command
    written = [path for path in tmp_path.rglob("*") if path.is_file() and standin.folder not in path.parents]
    assert len(written) > 100
    assert not any(b"secret" in path.read_bytes() for path in written)
    assert not any("secret" in text for pair in said for text in pair)
