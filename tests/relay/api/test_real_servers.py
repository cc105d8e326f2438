"""The stream by real servers, in processes of their own: uvicorn (ASGI), and Django's (WSGI)."""

import http.client
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Self

import pytest
from django.db import connection, transaction

import outbox
from outbox.models import Message
from relay.api import stream
from tests.kit.api import VIEW, Caller
from tests.kit.processes import Process
from tests.kit.sessions import sessions
from tests.kit.support import Counted

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(180),
]
NAME = "peers-stream"
"""The name of the servers' sessions in the database."""


class UvicornProcess(Process):
    program = ("-m", "tests.relay.api.asgi_server")


Make = Callable[..., Process]


class Server:
    """A web server in a process of its own; `start()` again after `kill()` takes the same port."""

    def __init__(self, database_url: str, make: Make, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._make = make
        glue = "&" if "?" in database_url else "?"
        self._environment = {
            "DATABASE_URL": f"{database_url}{glue}application_name={NAME}",
            **environment,
        }
        self.process = self.start()

    def start(self) -> Process:
        self.process = self._make(self.port, **self._environment)
        self.process.wait_for(self._answers)
        return self.process

    def kill(self) -> None:
        with self.process:  # its output is closed
            self.process.send(signal.SIGKILL)
            self.process.wait()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)


def uvicorn(port: int, **environment: str) -> Process:
    return UvicornProcess(str(port), **environment)  # type: ignore[arg-type]


def runserver(port: int, **environment: str) -> Process:
    address = f"127.0.0.1:{port}"
    return Process("runserver", "--noreload", address, **environment)  # type: ignore[arg-type]


@contextmanager
def running(database_url: str, make: Make, **environment: str) -> Iterator[Server]:
    server = Server(database_url, make, **environment)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            server.process.send(signal.SIGKILL)
        with server.process:
            pass


@pytest.fixture
def asgi(database_url: str) -> Iterator[Server]:
    with running(database_url, uvicorn) as server:
        yield server


class Browser:
    """Somebody who has logged in, and reads the stream as a browser does."""

    def __init__(self, server: Server, caller: Caller) -> None:
        self.server = server
        cookies = "; ".join(f"{each.key}={each.value}" for each in caller.client.cookies.values())
        self.headers = {"Cookie": cookies}
        self.last_id = ""

    def get(self, path: str = "/api/stream") -> dict[str, Any]:
        """Ask without a stream."""
        link = self.server.connect()
        try:
            link.request("GET", path, headers=self.headers)
            response = link.getresponse()
            said = response.read()
            assert response.status == 200, said
            return json.loads(said)  # type: ignore[no-any-return]
        finally:
            link.close()

    def open(self) -> "Events":
        return Events(self)


class Events:
    """One connection to the stream, from where the browser was. Leaves like a closed tab."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._link = browser.server.connect()
        headers = browser.headers | {"Accept": stream.EVENTS}
        if browser.last_id:
            headers["Last-Event-ID"] = browser.last_id
        try:
            self._link.request("GET", "/api/stream", headers=headers)
            self._response = self._link.getresponse()
        except BaseException:
            self._link.close()
            raise
        self.status = self._response.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._link.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield events until the stream ends; what was begun and broke off is no event."""
        found: dict[str, Any] | None = None
        number = ""
        for line in self._response:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                number = value
            elif name == "data":
                found = json.loads(value)
            elif not name and not value and line == b"\n":
                if number:
                    self._browser.last_id, number = number, ""
                if found is not None:
                    yield found
                    found = None


def emit() -> str:
    with transaction.atomic():
        return outbox.emit(Counted("k", 1)).id


def connections_of_servers() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [NAME])
        return int(cursor.fetchone()[0])


def share_without(seconds: float) -> float:
    """Return in which share of a time the servers had no connection to the database at all."""
    looks = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        looks.append(connections_of_servers() == 0)
        time.sleep(0.02)
    return sum(looks) / len(looks)


class Follower(threading.Thread):
    """Reads all that enters the log, with ever new connections, whatever happens to the server."""

    def __init__(self, browser: Browser) -> None:
        super().__init__(daemon=True)
        self.browser = browser
        self.came: list[str] = []
        self.opened = 0
        self.over = threading.Event()
        self._random = random.Random(7)

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with self.browser.open() as events:
                    assert events.status == 200, events.status
                    self.opened += 1
                    for _ in range(self._random.randint(1, 12)):
                        self.came.append(next(iter(events))["id"])
            except (OSError, http.client.HTTPException, StopIteration):
                time.sleep(0.05)


def test_nothing_is_skipped_or_told_twice(asgi: Server) -> None:
    """Across reconnects by the last id, late commits, and a server that is killed twice."""
    browser = Browser(asgi, Caller("viewer", *VIEW))
    browser.last_id = browser.get()["cursor"]
    follower = Follower(browser)
    rng = random.Random(11)
    emitted = []
    follower.start()
    with sessions(3) as writers:
        open_ones: dict[int, list[str]] = {}
        for turn in range(100):
            number = rng.randrange(3)
            if number not in open_ones:
                writers[number].begin()
                open_ones[number] = []
            open_ones[number].append(writers[number].run(outbox.emit, Counted("k", turn)).id)
            emitted.append(emit())
            if rng.random() < 0.3:
                writers[number].commit()
                emitted += open_ones.pop(number)
            if turn in (30, 70):
                asgi.kill()
                asgi.start()
            time.sleep(rng.uniform(0, 0.02))
        for number, ids in open_ones.items():
            writers[number].commit()
            emitted += ids
    ends = time.monotonic() + 60
    while len(follower.came) < len(emitted) and time.monotonic() < ends:
        time.sleep(0.1)
    follower.over.set()
    emit()  # so that it is not waiting for an event
    follower.join(30)

    came = follower.came[: len(emitted)]
    assert sorted(came) == sorted(emitted)
    assert follower.opened > 10
    in_log = [
        str(each)
        for each in Message.objects.order_by("position").values_list("message_id", flat=True)
    ]
    assert came != in_log[: len(came)]  # some did come late


def test_a_stream_holds_no_connection_and_one_that_is_left_is_noticed(asgi: Server) -> None:
    """Five listen; the database sees them for a moment a second. Then they go, all at once."""
    browser = Browser(asgi, Caller("viewer", *VIEW))
    listening = [browser.open() for _ in range(stream.MOST_LISTENERS)]
    assert {events.status for events in listening} == {200}
    with browser.open() as one_more:
        assert one_more.status == 429
    time.sleep(1)

    assert share_without(4) > 0.5
    for events in listening:
        with events:
            pass
    asgi.process.wait_for(lambda: _is_let_in(browser), 15)


def _is_let_in(browser: Browser) -> bool:
    """Tell whether all places are free again."""
    opened = [browser.open() for _ in range(stream.MOST_LISTENERS)]
    statuses = {events.status for events in opened}
    for events in opened:
        with events:
            pass
    return statuses == {200}


def test_a_stream_ends_after_its_time_and_goes_on(database_url: str) -> None:
    """By itself, in the middle of nothing; whoever comes back with the last id misses nothing."""
    with running(database_url, uvicorn, STREAM_SECONDS="3") as server:
        browser = Browser(server, Caller("viewer", *VIEW))
        browser.last_id = browser.get()["cursor"]
        first = emit()
        started = time.monotonic()
        with browser.open() as events:
            assert [each["id"] for each in events] == [first]
        assert 2.5 < time.monotonic() - started < 10
        second = emit()
        with browser.open() as events:
            assert [each["id"] for each in events] == [second]


def test_long_polling_under_wsgi_waits_without_a_connection(database_url: str) -> None:
    """Four wait at once; each is told of what comes as soon as it has come, and none before."""
    with running(database_url, runserver) as server:
        browser = Browser(server, Caller("viewer", *VIEW))
        cursor = browser.get()["cursor"]
        with ThreadPoolExecutor(4) as threads:
            path = f"/api/stream?wait=20&cursor={cursor}"
            waiting = [threads.submit(browser.get, path) for _ in range(4)]
            time.sleep(1)
            assert share_without(4) > 0.5
            assert not any(each.done() for each in waiting)
            wanted, told = emit(), time.monotonic()
            pages = [each.result() for each in waiting]
        assert time.monotonic() - told < 5
        assert [[row["id"] for row in page["results"]] for page in pages] == [[wanted]] * 4

        with browser.open() as asked_for_events:  # which WSGI does not send
            assert asked_for_events.status == 200
            assert asked_for_events._response.headers["Content-Type"] == "application/json"
