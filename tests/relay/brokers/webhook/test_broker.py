"""The broker of callbacks: what is sent, and what becomes of each."""

import json
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from standardwebhooks import Webhook

from outbox.message.envelope import Envelope
from outbox.models import Message, Request
from outbox.webhooks import verify
from relay.brokers import carriage
from relay.brokers.base import CONFIRMED, SKIPPED, Outcome, Status
from relay.brokers.webhook import WebhookBroker
from tests.kit.services.callbacks import LOCAL, OTHER_SECRET, SECRET, Answering, CallbackServer
from tests.kit.support import RecordingBroker

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

CalledBack = Callable[..., str]


def message(message_id: str) -> Envelope:
    return Message.objects.get(message_id=message_id).as_envelope()


def publish(broker: WebhookBroker, *ids: str) -> list[Outcome]:
    return broker.publish([message(each) for each in ids])


def statuses(outcomes: Sequence[Outcome]) -> list[Status]:
    return [outcome.status for outcome in outcomes]


def test_a_callback_is_a_signed_event(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    """CloudEvents in structured mode; the library verifies it, and so do we."""
    sent = called_back(f"{server.origin}/hook?token=secret")

    assert publish(broker, sent) == [CONFIRMED]

    [called] = server.called
    assert called.path == "/hook?token=secret"
    assert called.headers["content-type"] == "application/cloudevents+json"
    assert called.headers["webhook-id"] == sent
    body = Webhook(SECRET).verify(called.body, dict(called.headers))
    request = Request.objects.get()
    assert body["specversion"] == "1.0"
    assert (body["id"], body["type"]) == (sent, "outbox.request.settled")
    assert body["subject"] == body["causationid"] == str(request.message_id)
    assert body["datacontenttype"] == "application/json"
    assert body["data"] == {
        "request": str(request.message_id),
        "type": "callbacks.check",
        "state": "cancelled",
        "reason": "",
        "settled": request.settlement.settled_at.isoformat(),
        "replies": [],
    }
    event = verify(called.headers, called.body, SECRET)
    assert json.loads(event.data) == body["data"]


def test_secrets_are_those_of_the_owner_and_of_now(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    """Each of them signs, so that a new one can take over."""
    sent = called_back(f"{server.origin}/hook", owner="7")
    secrets = {"7": [OTHER_SECRET, SECRET], "*": SECRET}
    webhooks = {"SECRETS": secrets, "HTTP": True, "SUBNETS": LOCAL}

    with override_settings(OUTBOX={"WEBHOOKS": webhooks}):
        assert publish(broker, sent) == [CONFIRMED]

    [called] = server.called
    for each in (SECRET, OTHER_SECRET):
        Webhook(each).verify(called.body, dict(called.headers))


def test_a_callback_that_is_sent_again_has_the_same_id_and_another_time(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    """By which the receiver knows it, also after this process was killed in between."""
    sent = called_back(f"{server.origin}/hook")
    publish(broker, sent)

    other = WebhookBroker.from_settings("", {}, using="default")
    assert publish(other, sent) == [CONFIRMED]
    other.close()

    assert server.ids() == [sent, sent]
    assert server.called[0].body == server.called[1].body


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_refusal_is_told(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker, status: int
) -> None:
    server.answers["/hook"] = Answering(status)

    [outcome] = publish(broker, called_back(f"{server.origin}/hook?token=secret"))

    assert outcome.status is Status.REFUSED
    assert f"answered {status}" in outcome.reason
    assert not outcome.final
    assert "secret" not in outcome.reason


def test_gone_is_final(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    server.answers["/hook"] = Answering(410)

    [outcome] = publish(broker, called_back(f"{server.origin}/hook"))

    assert outcome.final


def test_a_pause_that_is_asked_for_is_kept_for_all_callbacks_to_it(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    server.answers["/hook"] = Answering(429, {"Retry-After": "120"})
    first, second = (called_back(f"{server.origin}/hook") for _ in range(2))

    [outcome] = publish(broker, first)
    [other] = publish(broker, second)

    assert outcome.after == 120
    assert other.status is Status.REFUSED
    assert 110 < other.after <= 120
    assert len(server.called) == 1


def test_one_receiver_that_is_away_delays_no_other(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    """Within one page: what is for another receiver passes."""
    with CallbackServer() as bad:
        bad.answers["/hook"] = Answering(500)
        ids = [called_back(f"{each.origin}/hook") for each in (bad, server, bad, server)]

        outcomes = publish(broker, *ids)

    refused, passed = outcomes[0::2], outcomes[1::2]
    assert passed == [CONFIRMED, CONFIRMED]
    assert statuses(refused) == [Status.REFUSED] * 2


def test_a_slow_receiver_is_waited_for_no_longer_than_a_page_has_time(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    """Its callback comes round later, and is not sent twice: its answer is taken then."""
    over = threading.Event()
    server.answers["/slow"] = Answering(before=over.wait)
    slow, quick = called_back(f"{server.origin}/slow"), called_back(f"{server.origin}/quick")
    broker.page_seconds = 0.2

    outcomes = publish(broker, slow, quick)

    assert statuses(outcomes) == [Status.LATER, Status.CONFIRMED]
    assert 0 < outcomes[0].after < 2
    [again] = publish(broker, slow)
    assert again.status is Status.LATER
    over.set()
    broker._flying[slow].future.result(5)
    assert publish(broker, slow) == [CONFIRMED]
    assert sorted(server.ids()) == sorted([slow, quick])


def test_a_receiver_gets_a_few_at_once(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    """What there is no room for comes round as well, and takes no thread meanwhile."""
    over = threading.Event()
    server.answers["/slow"] = Answering(before=over.wait)
    ids = [called_back(f"{server.origin}/slow") for _ in range(7)]
    broker.page_seconds = 0.2

    assert statuses(publish(broker, *ids)) == [Status.LATER] * 7

    assert len(broker._flying) == 4
    over.set()
    broker.page_seconds = 5.0
    for flight in list(broker._flying.values()):
        flight.future.result(5)
    assert publish(broker, *ids) == [CONFIRMED] * 7
    assert sorted(server.ids()) == sorted(ids)


def test_many_to_one_receiver_pass_within_a_page(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    """One after the other, with one statement for all of them."""
    ids = [called_back(f"{server.origin}/hook") for _ in range(20)]
    page = [message(each) for each in ids]

    with CaptureQueriesContext(connection) as queries:
        assert broker.publish(page) == [CONFIRMED] * 20

    assert len(queries) == 1
    assert sorted(server.ids()) == sorted(ids)


def test_what_cannot_be_sent_any_more_is_told(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    """The settings have changed, or the request was pruned."""
    gone, left = called_back(f"{server.origin}/hook"), called_back(f"{server.origin}/hook")
    page = [message(gone), message(left)]
    Request.objects.get(message_id=page[0].subject).delete()

    def outcomes(**webhooks: Any) -> list[Outcome]:
        with override_settings(OUTBOX={"WEBHOOKS": webhooks}):
            return broker.publish(page)

    first, second = outcomes(SECRETS=SECRET, SUBNETS=LOCAL)
    assert "no longer there" in first.reason
    assert first.final
    assert second.reason == "its URL begins with https://"
    assert "no secret" in outcomes(HTTP=True, SUBNETS=LOCAL)[1].reason
    assert "must not be called" in outcomes(SECRETS=SECRET, HTTP=True)[1].reason
    assert server.connections == 0


def test_it_gets_callbacks_alone_and_no_other_broker_gets_them(
    server: CallbackServer, called_back: CalledBack, broker: WebhookBroker
) -> None:
    """Whatever else is in the log is another relay's business, and counts as done."""
    sent = called_back(f"{server.origin}/hook")
    asked = Message.objects.get(type="callbacks.check").as_envelope()
    page, other = [asked, message(sent)], RecordingBroker()

    assert carriage.publish(broker, page) == [SKIPPED, CONFIRMED]
    assert carriage.publish(broker, page)[0] is SKIPPED
    assert carriage.publish(other, page) == [CONFIRMED, SKIPPED]

    assert [each.id for each in other.published] == [asked.id]
    assert set(server.ids()) == {sent}


def test_nothing_secret_is_logged(
    server: CallbackServer,
    called_back: CalledBack,
    broker: WebhookBroker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither the query of a URL nor a secret, by whatever library."""
    caplog.set_level(logging.DEBUG)
    for logger in ("outbox", "relay", "urllib3", "requests_hardened"):
        caplog.set_level(logging.DEBUG, logger)
    server.answers["/bad"] = Answering(500)
    ids = [called_back(f"{server.origin}/{each}?token=hidden") for each in ("good", "bad")]

    publish(broker, *ids)

    assert SECRET not in caplog.text
    assert "hidden" not in caplog.text


def test_options_are_checked() -> None:
    """With nothing to sign with as well."""

    def said(url: str = "", **options: Any) -> str:
        return str([each.msg for each in WebhookBroker.check("hooks", url, options)])

    with override_settings(OUTBOX={"WEBHOOKS": {"SECRETS": SECRET}}):
        assert said(TIMEOUT=5.0) == "[]"
        assert "WebhookBroker has no URL" in said("https://example.com")
        for options in (
            {"TIMEOUT": 0.0},
            {"WORKERS": 0},
            {"PER_RECEIVER": 33},
            {"CA_FILE": "/no/such/file"},
            {"NO_SUCH": 1},
        ):
            assert next(iter(options)) in said(**options)
    assert "no secret" in said()
