"""What each kind of message is, and that whoever asks gets the same answer."""

import pytest
from django.db import transaction

import outbox
from outbox.exceptions import InvalidEvent, UndecodableMessage
from outbox.message.celery_task import CONTENT_TYPE
from outbox.message.envelope import JSON
from outbox.message.kinds import EVENT, KINDS, TASK, kind_of
from relay.brokers.base import Broker
from relay.brokers.carriage import carries
from tests.kit.support import Counted


def test_a_message_is_an_event_unless_its_content_type_says_otherwise() -> None:
    assert kind_of(JSON) is kind_of("text/plain") is kind_of("") is EVENT
    assert kind_of(CONTENT_TYPE) is TASK


def test_an_event_is_ordered_by_its_key_and_a_task_by_one_that_it_was_given() -> None:
    assert EVENT.key("k", None) == EVENT.key("k", "s") == "k"
    assert EVENT.key(None, "s") is None
    assert TASK.key("k", "its-id") == "k"
    assert TASK.key("its-id", None) is None


def test_receipts_of_a_task_have_its_id() -> None:
    """Which is its key, unless it was given another."""
    assert TASK.receipt_id("id", None) == "id"
    assert TASK.receipt_id("account-1", "id") == "id"


def test_a_task_is_read_by_people_if_it_is_one() -> None:
    assert TASK.readable is not None
    with pytest.raises(UndecodableMessage):
        TASK.readable(b"{}")


@pytest.mark.django_db
@pytest.mark.parametrize("given", [CONTENT_TYPE, CONTENT_TYPE.upper(), f"{CONTENT_TYPE}; q=1"])
def test_an_event_cannot_pass_for_another_kind(given: str) -> None:
    match = "is that of a task, not of an event"
    with transaction.atomic(), pytest.raises(InvalidEvent, match=match):
        outbox.emit(Counted("k", 1), content_type=given)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_kind_has_a_capability_of_brokers(kind: object) -> None:
    assert isinstance(kind, type(EVENT))
    assert hasattr(Broker, f"carries_{kind.carried}")
    assert carries(Broker, kind) is (kind.carried == EVENT.plural)
