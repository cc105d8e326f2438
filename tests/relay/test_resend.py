"""What a relay says of messages that somebody misses, by their ids."""

import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

import outbox
from outbox.exceptions import ConfigurationError
from outbox.models import Message
from relay.log import open_log
from relay.models import Parked
from relay.resend import RelayResending
from relay.states import ParkedState
from relay.transfer import transfer
from tests.kit.support import Counted, RecordingBroker

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.usefixtures("registered", "two_lanes"),
    pytest.mark.django_db(transaction=True),
]
RELAYS = {"mine": {"BACKEND": "relay.brokers.local.LocalBroker"}}


def emit(count: int = 1) -> list[str]:
    with transaction.atomic():
        return [outbox.emit(Counted("a", number)).id for number in range(count)]


def publish(*, start: str = "beginning") -> None:
    log = open_log("mine", using="default", start=start)
    while lanes := log.lanes_with_work(2):
        for lane in lanes:
            transfer(log, RecordingBroker(), lane, 100)
    log.flush()


def park(message_id: str, state: ParkedState) -> None:
    row = Message.objects.get(message_id=message_id)
    Parked.objects.create(
        relay="mine",
        lane=row.lane,
        position=row.position,
        message_id=row.message_id,
        type=row.type,
        topic=row.topic,
        state=state,
        reason="refused",
        attempts=1,
        parked_at=timezone.now(),
    )


def unpublished(*ids: str, relay: str = "mine") -> set[str]:
    with override_settings(RELAYS=RELAYS):
        return RelayResending().unpublished(ids, relay=relay, using="default")


def test_what_is_pending_or_parked_is_under_way() -> None:
    """A dead one too: a person may have it tried again."""
    sent = emit(4)
    publish()
    states = (ParkedState.PARKED, ParkedState.WAITING, ParkedState.DEAD)
    for message_id, state in zip(sent[1:], states, strict=True):
        park(message_id, state)
    [pending] = emit()

    assert unpublished(*sent, pending) == {*sent[1:], pending}


def test_what_was_discarded_is_not_under_way() -> None:
    """It never comes, so that it is missing, and somebody has to accept that."""
    [sent] = emit()
    publish()
    park(sent, ParkedState.DISCARDED)

    assert unpublished(sent) == set()


def test_what_a_relay_began_behind_is_not_under_way() -> None:
    [skipped] = emit()
    publish(start="now")

    assert unpublished(skipped) == set()


def test_a_relay_that_there_is_not_is_an_error() -> None:
    """Nothing was ever published by it, and so nothing ever missing."""
    [sent] = emit()
    publish()

    with pytest.raises(ConfigurationError, match="no relay 'other'"):
        unpublished(sent, relay="other")
