"""The receivers of the page on notices, connected as they stand."""

import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from typing import Any

import django
import pytest
from django.core import mail
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

import outbox
from inbox.verdicts import RetryPolicy
from outbox import signals
from outbox.models import Scheduled
from outbox.runtime.backoff import Backoff
from outbox.runtime.outages import BROKER, Outages
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.inbox.support import Handling, fail, happened, receive
from tests.kit.support import Counted

PAGE = (ROOT / "docs/how-to/notices.md").read_text()
MAIL, SLACK, SENTRY = PYTHON.findall(PAGE)

pytestmark = pytest.mark.django_db(transaction=True)

ALL = {name: value for name, value in vars(signals).items() if isinstance(value, signals.Signal)}


@pytest.fixture(autouse=True)
def _disconnected() -> Iterator[None]:
    """Nobody is connected after the test who was not before."""
    before = {name: list(each.receivers) for name, each in ALL.items()}
    yield
    for name, each in ALL.items():
        each.receivers[:] = before[name]
        each.sender_receivers_cache.clear()


@pytest.fixture
def stop_at() -> Callable[[signals.Signal], None]:
    """Lets a command that runs in the test end when a signal is sent."""
    kept: list[Any] = []

    def stop_at(when: signals.Signal) -> None:
        def stop(sender: Any, **kwargs: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

        kept.append(stop)
        when.connect(stop)

    return stop_at


def overdue() -> None:
    """Let there be a finding."""
    with transaction.atomic():
        outbox.emit(Counted("a", 1), delay=3600)
    Scheduled.objects.update(due_at=timezone.now() - timedelta(minutes=5))


def watch() -> str:
    out = StringIO()
    with override_settings(RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}):
        call_command("doctor", "--watch", "0.05", stdout=out, no_color=True)
    return out.getvalue()


def test_a_mail_for_what_is_wrong_and_one_when_it_is_over(
    stop_at: Callable[[signals.Signal], None], settings: Any
) -> None:
    """From the row to the mailbox."""
    # With names it is deprecated from Django 6.0 on; before that, names are demanded.
    address = "a@example.com"
    settings.ADMINS = [address] if django.VERSION >= (6, 0) else [("A", address)]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    names: dict[str, Any] = {"__name__": "shop.notices"}
    exec(MAIL, names)

    def mend(sender: Any, **kwargs: Any) -> None:
        Scheduled.objects.all().delete()

    signals.finding_raised.connect(mend)
    stop_at(signals.finding_cleared)
    overdue()
    output = watch()

    wrong, well = [each for each in mail.outbox if "overdue" in each.subject]
    assert "warning: Scheduled messages are overdue" in wrong.subject
    assert "start manage.py relay" in wrong.body
    assert "over: Scheduled messages are overdue" in well.subject
    raised, _, cleared = output.partition("GONE")
    assert "WARNING  Scheduled messages are overdue (outbox.scheduled): 1 message" in raised
    assert cleared.split(") ")[0].strip() == "Scheduled messages are overdue (outbox.scheduled)"


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a server has been told, whose address is in the environment."""
    told: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            told.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("SLACK_WEBHOOK", f"http://127.0.0.1:{server.server_port}/services/x")
        yield told
        server.shutdown()
        thread.join()


def test_a_post_for_what_is_dead_and_for_an_outage(slack: list[str], handling: Handling) -> None:
    """By real HTTP."""
    names: dict[str, Any] = {"__name__": "shop.notices"}
    exec(SLACK, names)
    handling(fail, name="billing.charge", retry=RetryPolicy(attempts=1))
    message = happened()
    receive(message)
    outages = Outages(Backoff(base=0.1, cap=0.1), signals.logger)
    outages.failed(BROKER, "no route", "amqp://here")
    outages.passed(BROKER)
    signals.send(signals.messages_parked, None, relay="default", count=2, reason="unroutable")

    assert slack == [
        f"billing.charge could not handle {message.id}: ValueError: no luck",
        "The broker is away: no route",
        "The broker is back after 0 s",
        "Relay default has parked 2: unroutable",
    ]


def test_a_webhook_that_is_away_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """The message is dead as it would be, and the log says what failed."""
    monkeypatch.setenv("SLACK_WEBHOOK", "http://127.0.0.1:9/")
    names: dict[str, Any] = {"__name__": "shop.notices"}
    exec(SLACK, names)
    handling(fail, name="billing.charge", retry=RetryPolicy(attempts=1))
    [result] = receive(happened())
    assert result.dead == 1
    assert "say_what_is_dead" in caplog.text


def test_an_issue_in_sentry(stop_at: Callable[[signals.Signal], None]) -> None:
    """By Sentry's own library, which sends it to the test."""
    sentry_sdk = pytest.importorskip("sentry_sdk", reason="sentry-sdk is not installed")
    sent: list[dict[str, Any]] = []
    names: dict[str, Any] = {"__name__": "shop.notices"}
    exec(SENTRY, names)
    client = sentry_sdk.Client(
        "http://key@127.0.0.1:9/1",
        default_integrations=False,
        before_send=lambda event, hint: sent.append(event),  # and returns None: it stays here
    )
    with sentry_sdk.isolation_scope() as scope:
        scope.set_client(client)
        stop_at(signals.finding_raised)
        overdue()
        watch()
    client.close()

    [event] = [each for each in sent if each["tags"]["finding"] == "outbox.scheduled"]
    assert event["level"] == "warning"
    assert event["fingerprint"] == ["outbox.scheduled", "Scheduled messages are overdue"]
    assert "Scheduled messages are overdue: 1 message" in event["message"]
    assert event["contexts"]["figures"]["due"] == 1


def test_the_page_names_every_signal() -> None:
    """And no other."""
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(ALL)
