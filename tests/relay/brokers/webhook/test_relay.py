"""Callbacks through a relay: what the receiver says decides, and nobody else waits for it."""

import json
import logging
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

import outbox
from outbox.extensions.diagnosis import Level
from outbox.message.callbacks import CALLBACK_TYPE
from outbox.models import Message, Request
from relay import doctor
from relay.loop import Relay
from relay.models import Parked
from relay.parking.people import discard, requeue
from relay.states import ParkedState
from tests.kit.processes import Process, run
from tests.kit.services.callbacks import LOCAL, SECRET, Answering, CallbackServer
from tests.kit.waiting import until

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

CalledBack = Callable[..., str]
Make = Callable[..., Relay]


def hurry() -> None:
    """Let what is parked be due."""
    Parked.objects.filter(state=ParkedState.PARKED).update(next_attempt_at=Now())


def parked() -> Parked:
    return Parked.objects.get()


def test_a_settled_request_is_called_back_once(
    make: Make, server: CallbackServer, called_back: CalledBack
) -> None:
    """Beside it in the log is the request, which is nothing to this relay."""
    sent = called_back(f"{server.origin}/hook")

    assert make().run_until_empty()

    assert server.ids() == [sent]
    assert not Parked.objects.exists()
    row = Message.objects.get(message_id=sent)
    assert row.topic == "outbox.callbacks.127.0.0.1"
    assert server.origin not in str(row.attributes) + row.topic + bytes(row.data).decode()


def test_without_a_url_nothing_is_written(called_back: CalledBack) -> None:
    """What costs something is asked for."""
    with pytest.raises(Message.DoesNotExist):
        called_back("")

    assert not Message.objects.filter(type=CALLBACK_TYPE).exists()


def test_a_failure_is_parked_and_tried_again_with_the_same_id(
    make: Make, server: CallbackServer, called_back: CalledBack
) -> None:
    server.answers["/hook"] = Answering(404)
    sent, relay = called_back(f"{server.origin}/hook"), make()
    relay.run_once()
    row = parked()
    assert (row.state, row.reason, row.attempts) == (ParkedState.PARKED, "refused", 1)
    assert row.error == "the receiver answered 404 Not Found"

    del server.answers["/hook"]
    hurry()
    relay.run_once()

    assert parked().state == ParkedState.PUBLISHED
    assert server.ids() == [sent, sent]


def test_after_so_many_attempts_it_is_dead_until_a_person_requeues_it(
    make: Make, server: CallbackServer, called_back: CalledBack
) -> None:
    server.answers["/hook"] = Answering(400)
    called_back(f"{server.origin}/hook")
    relay = make(PARK_ATTEMPTS=2)
    for _ in range(4):
        relay.run_once()
        hurry()
    assert parked().state == ParkedState.DEAD
    assert len(server.called) == 2

    del server.answers["/hook"]
    requeue(Parked.objects.using("default").all())
    relay.run_once()

    assert parked().state == ParkedState.PUBLISHED


def test_gone_is_dead_at_once_and_can_be_discarded(
    make: Make, server: CallbackServer, called_back: CalledBack
) -> None:
    server.answers["/hook"] = Answering(410)
    called_back(f"{server.origin}/hook")

    make().run_once()

    assert (parked().state, parked().attempts) == (ParkedState.DEAD, 1)
    assert "410 Gone: it wants no more" in parked().error
    discard(Parked.objects.using("default").all(), by="somebody")
    assert parked().state == ParkedState.DISCARDED


def test_the_doctor_names_the_host_and_no_token(
    make: Make, server: CallbackServer, called_back: CalledBack
) -> None:
    """As of all that is parked or dead."""
    server.answers["/hook"] = Answering(410)
    called_back(f"{server.origin}/hook?token=swordfish")
    make().run_once()

    [finding] = doctor.parked("default")

    assert (finding.id, finding.level) == ("relay.dead", Level.ERROR)
    assert "'outbox.callbacks.127.0.0.1' is dead" in finding.title
    assert "the receiver answered 410 Gone" in finding.text
    assert "swordfish" not in str(finding)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(
    make: Make, server: CallbackServer, called_back: CalledBack, status: int
) -> None:
    """However soon it would be tried again by itself."""
    server.answers["/hook"] = Answering(status, {"Retry-After": "3600"})
    called_back(f"{server.origin}/hook")

    make(PARK_MAX=1.0).run_once()

    row = parked()
    assert row.next_attempt_at is not None
    assert row.changed is not None
    assert row.next_attempt_at - row.changed >= timedelta(seconds=3599)


def test_a_slow_receiver_costs_one_parked_row_and_no_attempt(
    make: Make,
    server: CallbackServer,
    called_back: CalledBack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Others pass meanwhile; its answer is taken when it has come. Nothing is an error."""
    over = threading.Event()
    server.answers["/slow"] = Answering(before=over.wait)
    slow = called_back(f"{server.origin}/slow")
    relay = make()
    with caplog.at_level(logging.WARNING, "relay"):
        relay.run_once()
        others = [called_back(f"{server.origin}/quick") for _ in range(3)]
        until(lambda: relay.run_once() or set(others) <= set(server.ids()))
        row = parked()
        assert (row.state, row.reason, row.attempts) == (ParkedState.PARKED, "later", 0)
        assert str(row.message_id) == slow

        over.set()

        def is_published() -> bool:
            hurry()
            relay.run_once()
            return parked().state == ParkedState.PUBLISHED

        until(is_published)
    assert server.ids().count(slow) == 1
    assert caplog.records == []


def test_a_dead_receiver_costs_parked_rows_and_delays_nobody(
    make: Make, server: CallbackServer, called_back: CalledBack
) -> None:
    """It is tried with a few, and left alone; what is for it is parked."""
    with CallbackServer() as bad:
        bad.answers["/hook"] = Answering(500)
        lost = [called_back(f"{bad.origin}/hook") for _ in range(9)]
        good = [called_back(f"{server.origin}/hook") for _ in range(3)]

        make().run_once()

        assert 1 <= len(bad.called) < 9
    assert sorted(server.ids()) == sorted(good)
    rows = Parked.objects.all()
    assert {str(row.message_id) for row in rows} == set(lost)


@pytest.mark.slow
def test_a_relay_that_is_killed_behind_the_post_sends_it_again_with_the_same_id(
    server: CallbackServer, called_back: CalledBack, database_url: str
) -> None:
    """The receiver had it, and nothing was written down of that."""
    sent = called_back(f"{server.origin}/hook")
    webhooks = {"SECRETS": SECRET, "HTTP": True, "SUBNETS": LOCAL}
    environment = {
        "DATABASE_URL": database_url,
        "TEST_OUTBOX": json.dumps({"LANES": 1, "WEBHOOKS": webhooks}),
        "TEST_RELAYS": json.dumps({"webhooks": {"BACKEND": "relay.brokers.webhook.WebhookBroker"}}),
    }
    arguments = ("relay", "--relay", "webhooks", "--until-empty")

    with Process(*arguments, failpoint="relay.published", **environment) as killed:
        assert killed.wait() == -signal.SIGKILL, killed.output
    assert server.ids() == [sent]
    code, output = run(*arguments, **environment)

    assert code == 0, output
    assert server.ids() == [sent, sent]
    assert server.called[0].body == server.called[1].body
    assert "token" not in output


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://user:pass@example.com/", "has a user or a password"),
        ("https://127.0.0.1.nip/", None),
        ("https://10.0.0.1/", "must not be called"),
        ("https://[::ffff:169.254.169.254]/", "must not be called"),
        ("https://0x7f.1/", "looks like one"),
        ("ftp://example.com/", "begins with https://"),
    ],
)
def test_a_url_that_cannot_be_called_is_refused_when_it_is_given(
    called_back: CalledBack, url: str, said: str | None
) -> None:
    """Of names it is told when they are called."""
    if said is None:
        called_back(url)
        return
    with pytest.raises(outbox.InvalidEvent, match=said) as raised:
        called_back(url)
    assert url not in str(raised.value)
    assert not Request.objects.exists()


def test_with_nothing_to_sign_with_it_cannot_be_asked(
    called_back: CalledBack, settings: Any
) -> None:
    settings.OUTBOX = {"WEBHOOKS": {"SECRETS": {"7": SECRET}}}

    called_back("https://example.com/", owner="7")
    with pytest.raises(outbox.ConfigurationError, match="no secret to sign callbacks with"):
        called_back("https://example.com/", owner="8")
