"""MESSAGES: one relay for events, another for tasks; and what cannot be carried."""

from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.db import transaction
from django.test import override_settings

import outbox
from outbox.celery import OutboxCelery, apps_in_use
from outbox.models import Message
from outbox.runtime.shutdown import Shutdown
from relay.brokers import carriage
from relay.brokers.base import Status
from relay.brokers.local import LocalBroker
from relay.checks import check_relays
from relay.conf import get_relay_settings
from relay.log import open_log
from relay.loop import Relay
from relay.models import Parked
from relay.replay import envelope
from tests.kit.support import Counted, RecordingBroker

pytestmark = pytest.mark.django_db(transaction=True)


def send_both() -> None:
    app = OutboxCelery("unit", broker="amqp://127.0.0.1:1//", set_as_current=False)
    with transaction.atomic():
        outbox.emit(Counted("a", 1))
        app.send_task("unit.add", (1, 2))


def run(broker: Any) -> bool:
    with Shutdown() as shutdown:
        relay = Relay(
            open_log("default", using="default"), broker, get_relay_settings("default"), shutdown
        )
        return relay.run_until_empty()


@pytest.mark.parametrize(
    ("messages", "types"),
    [
        ("all", {"tests.counted", "celery.task"}),
        ("events", {"tests.counted"}),
        ("tasks", {"celery.task"}),
    ],
)
def test_a_relay_publishes_what_is_its_business(messages: Any, types: set[str]) -> None:
    """The rest counts as done."""
    send_both()
    broker = RecordingBroker()
    broker.messages, broker.carries_tasks = messages, True  # type: ignore[misc]

    assert run(broker)
    assert {each.type for each in broker.published} == types
    assert not Parked.objects.exists()


def test_a_broker_that_knows_no_tasks_is_given_none() -> None:
    """The task is parked, with what to set; the inbox never takes it for an event."""
    send_both()

    assert not run(LocalBroker.from_settings("", {}, using="default"))
    parked = Parked.objects.get()
    assert (parked.type, parked.topic) == ("celery.task", "unit.add")
    assert "MESSAGES" in parked.error


@pytest.mark.parametrize("hold", [True, False])
def test_what_is_behind_a_refused_one_of_its_key_waits(hold: bool) -> None:
    """Also where the relay itself refuses it, and within a page: an event before a task, here."""
    app = OutboxCelery("unit", broker="amqp://127.0.0.1:1//", set_as_current=False)
    with transaction.atomic():
        outbox.emit(Counted("a", 1))
        app.send_task("unit.add", (1,), outbox_key="a")
        app.send_task("unit.add", (2,), outbox_key="b")
        app.send_task("unit.add", (3,))
    rows = Message.objects.order_by("position")
    broker = RecordingBroker()
    broker.carries_events, broker.carries_tasks = False, True  # type: ignore[misc]
    broker.hold_keys = hold

    outcomes = carriage.publish(broker, [envelope(row) for row in rows])

    held = Status.HELD if hold else Status.CONFIRMED
    assert [each.status for each in outcomes] == [
        Status.REFUSED,
        held,
        Status.CONFIRMED,
        Status.CONFIRMED,
    ]


def checks(**relay: Any) -> list[CheckMessage]:
    with override_settings(RELAYS={"default": relay}):
        return check_relays()


def test_the_check_names_what_a_broker_cannot_carry() -> None:
    """Tasks on the local broker, events on kombu's."""
    local = "relay.brokers.local.LocalBroker"
    kombu = {"BACKEND": "relay.brokers.kombu.KombuBroker", "URL": "redis://h"}

    assert "relay.E003" in {each.id for each in checks(BACKEND=local, MESSAGES="tasks")}
    assert "relay.E003" in {each.id for each in checks(**kombu)}
    assert "relay.E003" not in {each.id for each in checks(**kombu, MESSAGES="tasks")}


def test_the_check_names_an_app_whose_broker_no_relay_reaches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its tasks would go to another broker, where nobody works on them."""
    app = OutboxCelery("unit", broker="amqp://me:secret@localhost//", set_as_current=False)
    monkeypatch.setattr(apps_in_use, "apps", {app})
    amqp = "relay.brokers.amqp.AMQPBroker"

    assert checks(BACKEND=amqp, URL="pyamqp://you:x@127.0.0.1:5672/") == []
    [warning] = checks(BACKEND=amqp, URL="amqp://elsewhere//")
    assert warning.id == "relay.W003"
    assert "secret" not in str(warning)
    assert [each.id for each in checks(BACKEND=amqp, URL="amqp://localhost//", MESSAGES="events")]
