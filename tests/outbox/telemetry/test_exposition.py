"""What the rows say in numbers, in Prometheus' text format."""

import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.test import RequestFactory
from django.urls import path
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

import outbox
from outbox.exceptions import ConfigurationError
from outbox.extensions import gauges
from outbox.extensions.gauges import Gauge, Meter, Reading, register_meter
from outbox.telemetry import exposition
from outbox.telemetry.exposition import Exposition
from outbox.telemetry.views import metrics_view
from tests.acceptance.test_docs import PYTHON
from tests.kit.processes import ROOT, running
from tests.kit.support import Counted
from tests.kit.waiting import until

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]

SPARE = Gauge("spare_parts", ("name",), "parts on the shelf")
Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Values:
    """What Prometheus' own parser reads."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No meter but that of the test."""
    monkeypatch.setattr(gauges, "_meters", {})


class Shelf:
    """A meter's reader that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails: BaseException | None = None

    def __call__(self, using: str) -> Iterator[Reading]:
        self.asked += 1
        if self.fails:
            raise self.fails
        yield Reading(SPARE, ('a "b"\n\\c',), self.asked)


@pytest.mark.usefixtures("alone")
class TestExposition:
    """How meters are read."""

    def make(self, shelf: Callable[[str], Any], **options: Any) -> tuple[Exposition, list[float]]:
        now = [0.0]
        register_meter(Meter("shelf", (SPARE,), shelf, **options))
        return Exposition("default", clock=lambda: now[0]), now

    def test_what_is_read_is_kept_for_a_while(self) -> None:
        """However many ask."""
        shelf = Shelf()
        exposed, now = self.make(shelf, keeps=5.0)
        for _ in range(3):
            values = parsed(exposed.text().decode())
        assert shelf.asked == 1
        assert values["spare_parts", (("name", 'a "b"\n\\c'),)] == 1
        assert values["outbox_scrape_ok", (("part", "shelf"),)] == 1

        now[0] = 5.0
        assert parsed(exposed.text().decode())["spare_parts", (("name", 'a "b"\n\\c'),)] == 2

    def test_what_cannot_be_read_is_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        """And the others are there; nothing of yesterday is shown for today."""
        shelf = Shelf()
        exposed, now = self.make(shelf, keeps=1.0)
        register_meter(Meter("other", (), lambda using: ()))
        exposed.text()
        shelf.fails, now[0] = RuntimeError("gone"), 2.0
        values = parsed(exposed.text().decode())

        assert values["outbox_scrape_ok", (("part", "shelf"),)] == 0
        assert values["outbox_scrape_ok", (("part", "other"),)] == 1
        assert not [name for name, _ in values if name == "spare_parts"]
        assert "Metrics of shelf cannot be read: RuntimeError: gone" in caplog.text

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="it has such a limit")
    def test_a_statement_has_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A part that takes too long is given up; the session has its own limit again."""

        def sleeps(using: str) -> Iterator[Reading]:
            with connections[using].cursor() as cursor:
                cursor.execute("SELECT pg_sleep(30)")
            yield Reading(SPARE, ("x",), 1)

        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '7s'")
        try:
            exposed, _ = self.make(sleeps, limit=0.05)
            register_meter(Meter("shelf of others", (), lambda using: (), limit=0.05))
            values = parsed(exposed.text().decode())
            with connection.cursor() as cursor:
                cursor.execute("SHOW statement_timeout")
                assert cursor.fetchone() == ("7s",)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("RESET statement_timeout")

        assert values["outbox_scrape_ok", (("part", "shelf"),)] == 0
        assert values["outbox_scrape_ok", (("part", "shelf of others"),)] == 1

    @pytest.mark.parametrize(
        "reading",
        [
            Reading(Gauge("undeclared", (), "nobody knows it"), (), 1),
            Reading(SPARE, (), 1),
            Reading(SPARE, ("x", "y"), 1),
            Reading(SPARE, ("x",), None),  # type: ignore[arg-type]
            Reading(SPARE, ("x",), "many"),  # type: ignore[arg-type]
        ],
    )
    def test_what_does_not_fit_is_the_fault_of_one_part(self, reading: Reading) -> None:
        """All others are there."""
        exposed, _ = self.make(lambda using: [Reading(SPARE, ("x",), 1), reading])
        register_meter(Meter("other", (), lambda using: ()))
        values = parsed(exposed.text().decode())

        assert values == {
            ("outbox_scrape_ok", (("part", "shelf"),)): 0,
            ("outbox_scrape_ok", (("part", "other"),)): 1,
            ("outbox_scrape_seconds", (("part", "other"),)): 0,
        }

    def test_labels_and_values_need_not_be_text_and_float(self) -> None:
        """A number of the database is one, too; what cannot be encoded is replaced."""
        readings = [
            Reading(SPARE, (3,), Decimal("1.5")),  # type: ignore[arg-type]
            Reading(SPARE, ("\ud800",), 1),
        ]
        exposed, _ = self.make(lambda using: readings)
        values = parsed(exposed.text().decode())

        assert values["spare_parts", (("name", "3"),)] == 1.5
        assert values["spare_parts", (("name", "?"),)] == 1

    def test_a_request_may_choose_by_name(self) -> None:
        """As `name[]` of Prometheus' own server does."""
        exposed, _ = self.make(Shelf())
        chosen = exposed.registry.restricted_registry(["spare_parts"])

        assert [name for name, _ in parsed(generate_latest(chosen).decode())] == ["spare_parts"]


class Slow(Shelf):
    """A reader that waits for somebody else until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = threading.Event()

    def __call__(self, using: str) -> Iterator[Reading]:
        assert self.may_go.wait(30)
        return super().__call__(using)


@pytest.mark.usefixtures("alone")
class TestSlow:
    """What waits for a broker that does not answer."""

    NAME = "spare_parts", (("name", 'a "b"\n\\c'),)
    OK = "outbox_scrape_ok", (("part", "shelf"),)

    @pytest.fixture
    def slow(self) -> Iterator[Slow]:
        made = Slow()
        yield made
        made.may_go.set()

    def test_nobody_waits_for_it_for_long(self, slow: Slow) -> None:
        """The others are there, and what it read last, until that is too old."""
        now = [0.0]
        register_meter(Meter("shelf", (SPARE,), slow, keeps=5.0, slow=True))
        register_meter(Meter("other", (), lambda using: ()))
        exposed = Exposition("default", patience=0.05, clock=lambda: now[0])

        def values() -> Values:
            return parsed(exposed.text().decode())

        assert (values()[self.OK], self.NAME in values()) == (0, False)
        assert values()["outbox_scrape_ok", (("part", "other"),)] == 1
        slow.may_go.set()
        until(lambda: values()[self.OK] == 1)
        assert values()[self.NAME] == slow.asked == 1

        slow.may_go.clear()
        now[0] = 6.0
        assert (values()[self.OK], values()[self.NAME]) == (1, 1)
        now[0] = 6.0 + exposition.TOO_LONG + 1
        assert (values()[self.OK], self.NAME in values()) == (0, False)
        slow.may_go.set()
        until(lambda: values().get(self.NAME) == 2)

    def test_one_who_asks_alone_waits_for_it(self) -> None:
        """In its own thread, as a command does that prints once."""
        threads = []

        def read(using: str) -> Iterator[Reading]:
            threads.append(threading.current_thread())
            yield Reading(SPARE, ("x",), 1)

        register_meter(Meter("shelf", (SPARE,), read, slow=True))
        assert parsed(Exposition("default", patience=None).text().decode())[self.OK] == 1
        assert threads == [threading.current_thread()]

    def test_its_connections_are_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its thread ends, and leaves no session behind."""
        closed = []
        close_all = connections.close_all

        def close() -> None:
            close_all()
            closed.append(threading.current_thread())

        monkeypatch.setattr(connections, "close_all", close)
        register_meter(Meter("shelf", (SPARE,), Shelf(), slow=True))
        Exposition("default", patience=30).text()

        assert len(closed) == 1
        assert closed[0] is not threading.current_thread()

    def test_another_scrape_waits_for_nobody(self, slow: Slow) -> None:
        """Though somebody reads the same just now, for whom the database does not answer."""
        register_meter(Meter("shelf", (SPARE,), slow, limit=None))
        exposed = Exposition("default", patience=0.05)
        first = threading.Thread(target=exposed.text)
        first.start()
        until(lambda: exposed._kept["shelf"].lock.locked())
        values = parsed(exposed.text().decode())
        slow.may_go.set()
        first.join()

        assert values[self.OK] == 0
        assert slow.asked == 1


@pytest.mark.usefixtures("alone")
class TestRegistration:
    """What meters may be called, and their gauges."""

    def register(self, name: str, *found: Gauge) -> None:
        register_meter(Meter(name, found, lambda using: ()))

    def test_a_gauge_has_one_meter(self) -> None:
        """Two of the same name would be one in Prometheus."""
        self.register("one", SPARE)
        with pytest.raises(ConfigurationError, match="a gauge 'spare_parts' already"):
            self.register("other", Gauge("spare_parts", (), "others"))
        with pytest.raises(ConfigurationError, match="a gauge 'outbox_scrape_ok' already"):
            self.register("other", Gauge("outbox_scrape_ok", (), "another"))
        assert [each.name for each in gauges.meters()] == ["one"]

    def test_a_meter_of_the_same_name_replaces_the_first(self) -> None:
        """With the same gauges, or others."""
        self.register("one", SPARE)
        self.register("one", SPARE, Gauge("more", (), "more"))
        [one] = gauges.meters()
        assert len(one.gauges) == 2

    @pytest.mark.parametrize(
        "gauge",
        [
            Gauge("spare parts", (), ""),
            Gauge("ersatzteile_für_alle", (), ""),
            Gauge("spare", ("a-b",), ""),
        ],
    )
    def test_names_are_those_that_prometheus_knows(self, gauge: Gauge) -> None:
        """Found when it is registered, and not by the first scrape."""
        with pytest.raises(ConfigurationError, match="is no name of a gauge or label"):
            self.register("one", gauge)


def test_only_what_is_declared_is_read(settings: Any) -> None:
    """Names and labels are a contract: alarms and boards are made of them."""
    settings.RELAYS = {"mine": {"BACKEND": "relay.brokers.local.LocalBroker"}}
    with transaction.atomic():
        outbox.emit(Counted("k", 1))
        outbox.emit(Counted("k", 2), delay=60)
    for meter in gauges.meters():
        readings = list(meter.read("default"))
        assert {each.gauge for each in readings} <= set(meter.gauges)
        assert all(len(each.labels) == len(each.gauge.labels) for each in readings)
    values = parsed(Exposition("default").text().decode())

    pending = [value for (name, _), value in values.items() if name == "relay_pending_messages"]
    assert sum(pending) == 1
    assert values["outbox_scheduled_messages", ()] == 1


def test_what_asks_brokers_is_read_behind() -> None:
    """One that does not answer takes nobody else's numbers with it."""
    assert [each.name for each in gauges.meters() if each.slow] == ["doctor"]


@pytest.mark.usefixtures("alone")
def test_the_examples_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The view answers, and a gauge of one's own is among the others."""
    monkeypatch.setenv("METRICS_TOKEN", "geheim")
    view, *_, own = PYTHON.findall((ROOT / "docs/how-to/monitor.md").read_text())
    names: dict[str, Any] = {"os": os, "path": path, "__name__": "shop.apps"}
    exec(view, names)
    exec(own, names)
    names["ShopConfig"].ready(apps.get_app_config("shop"))
    [route] = names["urlpatterns"]
    request = RequestFactory().get("/", headers={"Authorization": "Bearer geheim"})

    values = parsed(route.callback(request).content.decode())
    assert values["shop_open_orders", ()] == 0


class TestView:
    """Who may see it."""

    def get(self, token: str | None, **headers: str) -> Any:
        request = RequestFactory().get("/metrics", headers=headers or None)
        return metrics_view(token=token)(request)

    def test_with_the_token(self) -> None:
        """As Prometheus sends it."""
        response = self.get("geheim", Authorization="Bearer geheim")
        assert response.status_code == 200
        assert response["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "no-store" in response["Cache-Control"]
        assert parsed(response.content.decode())["outbox_scrape_ok", (("part", "outbox"),)] == 1

    @pytest.mark.parametrize(
        "given", ["", "Bearer", "Bearer other", "Basic geheim", "Bearer gehéim"]
    )
    def test_without_it(self, given: str) -> None:
        """Nothing is read for it, and nothing said."""
        response = self.get("geheim", Authorization=given)
        assert (response.status_code, response.content) == (401, b"")
        assert response["WWW-Authenticate"] == "Bearer"

    def test_for_everybody(self) -> None:
        """If somebody says so in words."""
        assert self.get(None).status_code == 200

    def test_the_newline_of_a_file_is_no_part_of_it(self) -> None:
        """Secrets are often read from files."""
        assert self.get("geheim\n", Authorization="Bearer geheim").status_code == 200

    def test_what_no_header_can_carry_is_refused(self) -> None:
        """At the start: nobody could ever send it."""
        with pytest.raises(ConfigurationError, match="not ASCII"):
            metrics_view(token="gehéim")

    @pytest.mark.parametrize("token", ["", " \n"])
    def test_an_unset_variable_opens_nothing(self, token: str) -> None:
        """An empty token is a mistake, found at the start."""
        with pytest.raises(ConfigurationError, match="token"):
            metrics_view(token=token)

    def test_it_changes_nothing(self) -> None:
        """Only GET and HEAD."""
        request = RequestFactory().post("/metrics")
        assert metrics_view(token=None)(request).status_code == 405


class TestCommand:
    """manage.py metrics."""

    def test_it_prints(self) -> None:
        """Once, for a look or a text file collector."""
        out = StringIO()
        call_command("metrics", stdout=out)
        assert parsed(out.getvalue())["outbox_scrape_ok", (("part", "relay"),)] == 1

    @pytest.mark.parametrize("port", ["-1", "65536", "x", "1" * 50])
    def test_no_port(self, port: str) -> None:
        """Is refused with the reason."""
        with pytest.raises(CommandError, match="must be a port"):
            call_command("metrics", f"--port={port}")

    @pytest.mark.slow
    @pytest.mark.skipif(connection.vendor != "postgresql", reason="the process needs the database")
    @pytest.mark.django_db(transaction=True)
    def test_it_serves_until_it_is_stopped(self, database_url: str) -> None:
        """A real process, asked over HTTP."""
        with running("metrics", "--port", "0", DATABASE_URL=database_url) as process:
            process.wait_for(lambda: "Metrics at" in process.output)
            url = process.output.split()[-1]
            for _ in range(2):
                with urllib.request.urlopen(url, timeout=30) as response:
                    values = parsed(response.read().decode())
            assert values["outbox_scrape_ok", (("part", "inbox"),)] == 1
            with urllib.request.urlopen(f"{url}?name[]=outbox_scrape_ok", timeout=30) as response:
                values = parsed(response.read().decode())
            assert {name for name, _ in values} == {"outbox_scrape_ok"}
            process.send(signal.SIGTERM)
            assert process.wait() == 0
