"""The page about callbacks, executed from top to bottom, against a server that runs its view."""

import json
import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import RequestFactory, override_settings

import inbox
import outbox
from inbox.handlers.registry import handlers
from inbox.replies import taking
from outbox.message.event_types import registry
from outbox.models import Request
from outbox.runtime.shutdown import Shutdown
from outbox.testing import drain
from outbox.webhooks.conf import webhook_settings
from relay.conf import create_broker, get_relay_settings
from relay.log import open_log
from relay.loop import Relay
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.kit.services.callbacks import LOCAL, OTHER_SECRET, SECRET, CallbackServer

PAGE = (ROOT / "docs/how-to/call-back.md").read_text()
SETTINGS, ASK, VERIFY, SECRETS = PYTHON.findall(PAGE)
JSON = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ASK_DECLARED = PYTHON.findall((ROOT / "docs/how-to/ask.md").read_text())[0]

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("PARTNER_7_NEW", OTHER_SECRET)
    monkeypatch.setenv("PARTNER_7_OLD", SECRET)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The settings of the page, and the request of the page on asking."""
    before = {each.name for each in handlers}, list(registry)
    found: dict[str, Any] = {"__name__": "shop.settings"}
    exec(SETTINGS, found)
    events: dict[str, Any] = {"__name__": "shop.events"}
    exec(ASK_DECLARED, events)
    monkeypatch.setitem(sys.modules, "shop", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "shop.events", SimpleNamespace(**events))
    own = {"HTTP": True, "SUBNETS": LOCAL}  # the server of this test is no public one
    settings = {
        "OUTBOX": {"SOURCE": "/shop", "WEBHOOKS": found["OUTBOX"]["WEBHOOKS"] | own},
        "RELAYS": found["RELAYS"],
    }
    with override_settings(INBOX={"GROUP": "shop"}, **settings):
        taking.install()
        yield found | events
    for name in {each.name for each in handlers} - before[0]:
        handlers.remove(name)
    for each in list(registry):
        if each not in before[1]:
            registry.remove(each)


def call_back() -> None:
    """Let the relay of callbacks have one look at the log."""
    conf, shutdown = get_relay_settings("webhooks"), Shutdown()
    broker = create_broker("webhooks", using="default")
    relay = Relay(open_log("webhooks", using="default"), broker, conf, shutdown)
    relay.run_once()
    relay.close()
    shutdown.close()


def test_the_page(names: dict[str, Any]) -> None:
    """Asked, answered, called back, verified by the view, and as the page shows it."""

    @inbox.handler(names["Quote"])
    def quote(request: Any, message: outbox.Envelope) -> object:
        return names["QuoteGiven"](19)

    with CallbackServer() as server:
        exec(ASK, names)
        drain()
        # The partner's host is not to be called by tests.
        url = f"{server.origin}/hooks/quotes?order=42"
        assert Request.objects.get().callback_url.endswith("/hooks/quotes?order=42")
        Request.objects.update(callback_url=url)
        call_back()
        [called] = server.called

    remembered: list[tuple[str, bytes]] = []
    names["remember"] = lambda event_id, data: remembered.append((event_id, data))
    exec(VERIFY, names)
    response = view(names, called.headers, called.body)
    assert response.status_code == 204
    assert remembered[0][0] == called.headers["webhook-id"]
    assert view(names, called.headers, called.body + b" ").status_code == 401
    assert len(remembered) == 1

    sent, shown = json.loads(called.body), json.loads(JSON[0])
    assert sent["subject"] == names["asked"].id == sent["data"]["request"]
    assert sent["data"]["replies"][0]["data"] == {"amount": 19}
    assert forms(sent) == forms(shown)


def test_several_secrets(names: dict[str, Any]) -> None:
    exec(SECRETS, names)

    with override_settings(OUTBOX=names["OUTBOX"]), transaction.atomic():
        outbox.ask(names["Quote"](1), owner="partner-7", callback_url="https://partner.example/")
        assert webhook_settings().secrets_of("partner-7") == [OTHER_SECRET, SECRET]
        assert webhook_settings().secrets_of("another") == [SECRET]


def view(names: dict[str, Any], headers: Any, body: bytes) -> HttpResponse:
    given = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    request = RequestFactory().post(
        "/hooks/quotes", body, content_type=headers["content-type"], **given
    )
    response: HttpResponse = names["quotes"](request)
    return response


def forms(value: Any) -> Any:
    """Return the names and types of what JSON holds, and what does not change."""
    if isinstance(value, dict):
        return {name: forms(each) for name, each in value.items()}
    if isinstance(value, list):
        return [forms(each) for each in value]
    return type(value)
