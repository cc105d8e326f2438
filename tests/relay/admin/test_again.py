"""Publish a message again, from its page."""

from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client, override_settings
from django.urls import reverse

import outbox
from inbox.models import Receipt
from outbox.models import Message
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Parked
from relay.replay import publish_again
from relay.transfer import transfer
from tests.inbox.support import Handling
from tests.kit.admin_pages import confirmed, detail_url, page, shown
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

LOCAL = {"BACKEND": "relay.brokers.local.LocalBroker"}
AWAY = {"BACKEND": "relay.brokers.amqp.AMQPBroker", "URL": "amqp://127.0.0.1:1//"}


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 1}, RELAYS={"default": LOCAL, "away": AWAY}):
        yield


@pytest.fixture
def message() -> Message:
    with transaction.atomic():
        envelope = outbox.emit(Counted("a", 1))
    return Message.objects.get(message_id=envelope.id)


def publish(relay: str = "default") -> None:
    transfer(open_log(relay, using="default"), RecordingBroker(), 0, 100)


def again(message: Message, relay: str = "default") -> str:
    return reverse("admin:django_relay_again", args=(message.pk, relay))


def allow() -> None:
    user = User.objects.get(username="viewer")
    user.user_permissions.add(Permission.objects.get(codename="replay_checkpoint"))


def test_a_message_is_published_again(viewer: Client, message: Message, handling: Handling) -> None:
    """By the button of its relay, after a question; receivers get it, and it is written down."""
    handling(pattern="tests.counted")
    publish()
    allow()
    assert again(message) in page(viewer, detail_url(message))
    asked = viewer.get(again(message))
    assert "Publish 1 message again by relay default?" in shown(asked.content.decode())
    assert str(message.message_id) in asked.content.decode()
    assert not Receipt.objects.exists()

    response = confirmed(viewer, asked)

    assert response.redirect_chain == [(detail_url(message), 302)]
    assert "Relay default has published it again." in response.content.decode()
    assert Receipt.objects.get().message_id == str(message.message_id)
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (
        str(message.pk),
        "Published again by relay default.",
    )


def test_what_is_not_published_yet_is_left_to_the_relay(viewer: Client, message: Message) -> None:
    """There is no button, and who asks all the same is told."""
    allow()
    assert again(message) not in page(viewer, detail_url(message))

    response = viewer.post(again(message), follow=True)

    assert "has not published it yet" in response.content.decode()
    assert not LogEntry.objects.exists()


def test_it_takes_a_permission_of_its_own(viewer: Client, message: Message) -> None:
    """Looking is not enough; nor is the permission without looking."""
    publish()
    assert again(message) not in page(viewer, detail_url(message))
    assert viewer.get(again(message)).status_code == 403
    assert viewer.post(again(message)).status_code == 403
    allow()
    user = User.objects.get(username="viewer")
    user.user_permissions.remove(Permission.objects.get(codename="view_message"))

    assert viewer.post(again(message)).status_code == 403
    assert not LogEntry.objects.exists()


def test_a_relay_or_a_message_that_there_is_not(viewer: Client, message: Message) -> None:
    """Is not found; a chain of a relay that is no more has no button."""
    publish("retired")
    allow()

    assert again(message, "retired") not in page(viewer, detail_url(message))
    assert viewer.get(again(message, "retired")).status_code == 404
    assert viewer.get(again(message).replace(str(message.pk), "987654")).status_code == 404
    assert viewer.put(again(message)).status_code == 405


def test_a_broker_that_is_away_is_told(viewer: Client, message: Message) -> None:
    """And it stays written down that it was begun: what a broker took is not known then."""
    publish("away")
    allow()

    response = viewer.post(again(message, "away"), follow=True)

    assert "It was not published again: " in response.content.decode()
    begun = "Begun, and not known to be done. Published again by relay away."
    assert LogEntry.objects.get().change_message == begun


def test_a_message_that_was_parked_and_published_can_be_sent_again(
    message: Message, handling: Handling
) -> None:
    """It is published like any other; one that is still owed is not."""
    handling(pattern="tests.counted")
    broker = RecordingBroker()
    broker.refuse[str(message.message_id)] = Status.UNROUTABLE
    transfer(open_log("default", using="default"), broker, 0, 100)
    assert publish_again(message, "default") is False
    Parked.objects.update(state="published")

    assert publish_again(message, "default") is True
    assert Receipt.objects.count() == 1
