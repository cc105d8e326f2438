"""Whether a web process has what it needs, for a probe."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import path

from outbox.telemetry.readiness import Readiness, Tables
from outbox.telemetry.views import health_view, ready_view
from tests.kit.database import statements
from tests.kit.waiting import until

urlpatterns = [path("healthz", health_view()), path("readyz", ready_view())]


class Look:
    """What a look finds, as the test says."""

    def __init__(self) -> None:
        self.looked = 0
        self.found: str | Exception = ""
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self) -> str:
        self.looked += 1
        assert self.may_go.wait(30)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def look() -> Iterator[Look]:
    made = Look()
    yield made
    made.may_go.set()


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def make(look: Look, now: list[float]) -> Callable[..., Readiness]:
    return lambda **options: Readiness(look, clock=lambda: now[0], **options)


class TestReadiness:
    """When it looks, and how long that may take."""

    def test_it_looks_once_however_many_ask(
        self, make: Callable[..., Readiness], look: Look, now: list[float]
    ) -> None:
        """Anybody may ask; the database must not notice."""
        readiness = make(keeps=1.0)
        assert [readiness.missing() for _ in range(5)] == [""] * 5
        assert look.looked == 1
        now[0] = 1.0
        readiness.missing()
        assert look.looked == 2

    def test_what_does_not_answer_is_away(
        self, make: Callable[..., Readiness], look: Look, now: list[float]
    ) -> None:
        """Nobody waits for long, and there is never more than one that looks."""
        readiness = make(limit=0.05)
        look.may_go.clear()
        assert [readiness.missing() for _ in range(3)] == ["database"] * 3
        assert look.looked == 1
        look.may_go.set()
        until(lambda: readiness.missing() == "")

    def test_who_asks_next_waits_no_more(
        self, make: Callable[..., Readiness], look: Look, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else whoever may ask could keep every worker waiting."""
        readiness = make(limit=0.05)
        look.may_go.clear()
        assert readiness.missing() == "database"
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "join", lambda *_: pytest.fail("it waits"))
            assert readiness.missing() == "database"
        look.may_go.set()
        until(lambda: readiness.missing() == "")

    def test_it_is_told_once(
        self,
        make: Callable[..., Readiness],
        look: Look,
        now: list[float],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """With the reason, which the answer does not have; and when it is over."""
        caplog.set_level("INFO", "outbox")
        readiness = make()
        for second, found in enumerate(("", *[OperationalError("gone")] * 3, "", "")):
            now[0], look.found = second * 10.0, found
            readiness.missing()
        assert [record.getMessage() for record in caplog.records] == [
            "This process is not ready (database). OperationalError: gone",
            "This process is ready again.",
        ]

    def test_its_sessions_are_closed(
        self, make: Callable[..., Readiness], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of its thread, and no others."""
        closed: list[threading.Thread] = []
        monkeypatch.setattr(
            connections, "close_all", lambda: closed.append(threading.current_thread())
        )
        make().missing()
        assert len(closed) == 1
        assert closed[0] is not threading.current_thread()


@pytest.mark.sqlite
@pytest.mark.django_db
class TestTables:
    """What it looks at."""

    def test_all_is_there(self) -> None:
        """Once it was migrated it is only asked whether it answers."""
        tables = Tables()
        assert tables() == ""
        assert statements(tables) == ["SELECT 1"]

    @pytest.mark.parametrize("label", ["django_outbox", "django_relay", "django_inbox"])
    def test_a_migration_is_missing(self, label: str) -> None:
        """Until it is applied."""
        tables = Tables()
        recorder = MigrationRecorder(connection)
        last = recorder.migration_qs.filter(app=label).order_by("name").last()
        assert last is not None
        last.delete()
        assert tables() == "migrations"
        recorder.record_applied(label, last.name)
        assert tables() == ""

    def test_those_of_others_do_not_matter(self) -> None:
        """They are another's concern."""
        MigrationRecorder(connection).migration_qs.filter(app="auth").delete()
        assert Tables()() == ""

    def test_an_alias_may_be_given(self) -> None:
        """Where no router tells it outside of a request, as with tenants."""
        assert list(Tables("mine")._labels()) == ["mine"]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_database_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """503 and a word; the process itself is alive."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    where = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": str(port)}
    # For threads that connect from now on.
    monkeypatch.setitem(connections.settings, "other", connections["other"].settings_dict | where)
    response = answer(ready_view(using="other"))

    assert (response.status_code, response.content) == (503, b"database\n")
    assert "refused" in caplog.text
    assert answer(health_view()).status_code == 200


def answer(view: Callable[[Any], HttpResponse]) -> HttpResponse:
    return view(RequestFactory().get("/"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("tests.outbox.telemetry.test_readiness")
class TestViews:
    """As a project has them in its URLs."""

    @pytest.mark.parametrize("url", ["/healthz", "/readyz"])
    def test_well(self, url: str, client: Client, settings: Any) -> None:
        """Nobody has to log in, no request is a transaction, and nothing keeps the answer."""
        response = client.get(url)
        assert (response.status_code, response.content) == (200, b"ok\n")
        assert "no-store" in response["Cache-Control"]
        assert client.head(url).content == b""
        assert client.post(url).status_code == 405

    def test_the_health_asks_no_database(self, client: Client) -> None:
        """Which may be away."""
        assert statements(lambda: client.get("/healthz")) == []
