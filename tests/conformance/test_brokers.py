"""What every broker adapter must do, whatever it is. A new adapter is added to ADAPTERS."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from django.db import transaction
from kombu import Connection

import outbox
from inbox import registry as inbox_registry
from inbox.registry import Handler
from outbox.envelope import Envelope
from outbox.wire import from_message
from relay.brokers.amqp import AMQPBroker
from relay.brokers.base import CONFIRMED, Broker, Status
from relay.brokers.local import LocalBroker
from tests.support import Counted

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Subject:
    """A broker under test, and how to see what it delivered."""

    broker: Broker
    received: Callable[[], list[Envelope]]
    refuse: Callable[[Envelope], None]
    """Make the next publish of this message fail."""


@pytest.fixture
def local() -> Iterator[Subject]:
    received: list[Envelope] = []
    refused: set[str] = set()

    def handle(event: object, message: Envelope) -> None:
        if message.id in refused:
            raise RuntimeError("refused by the test")
        received.append(message)

    inbox_registry.handlers.add(Handler(name="conformance", pattern="tests.#", function=handle))
    broker = LocalBroker.from_settings("", {}, using="default")
    yield Subject(broker, lambda: received, lambda envelope: refused.add(envelope.id))
    inbox_registry.handlers.remove("conformance")


@pytest.fixture
def amqp(broker_url: str) -> Iterator[Subject]:
    name = f"conformance-{uuid.uuid4()}"
    broker = AMQPBroker.from_settings(broker_url, {"EXCHANGE": name}, using="default")
    broker.publish([])
    with Connection(broker_url) as connection:
        channel = connection.channel()
        channel.queue_declare(
            name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
        channel.queue_bind(name, name, routing_key="tests.counted")
        yield Subject(broker, lambda: list(take(channel, name)), lambda envelope: None)
        channel.queue_delete(name)
        channel.exchange_delete(name)
    broker.close()


def take(channel: object, queue: str) -> Iterator[Envelope]:
    while (raw := channel.basic_get(queue, no_ack=True)) is not None:  # type: ignore[attr-defined]
        yield from_message(
            raw.properties["application_headers"],
            raw.properties["content_type"],
            raw.body if isinstance(raw.body, bytes) else raw.body.encode(),
            topic=raw.delivery_info["routing_key"],
        )


ADAPTERS = ["local", "amqp"]


@pytest.fixture(params=ADAPTERS)
def subject(request: pytest.FixtureRequest) -> Subject:
    found: Subject = request.getfixturevalue(request.param)
    return found


def envelopes(*numbers: int, key: str = "a", **options: object) -> list[Envelope]:
    """Return messages as the relay reads them, without leaving them in the log."""
    made: list[Envelope] = []
    with transaction.atomic():
        for number in numbers:
            made.append(outbox.emit(Counted(key, number), **options))
        transaction.set_rollback(True)
    return made


def test_what_is_confirmed_was_delivered_unchanged(subject: Subject) -> None:
    """Every attribute and the data arrive equal, byte for byte."""
    page = envelopes(1, attributes={"tenant": "t1"}, subject="s", correlation_id="c")

    assert subject.broker.publish(page) == [CONFIRMED]
    assert subject.received() == page


def test_an_empty_page_is_nothing(subject: Subject) -> None:
    """Publishing no message has no outcome."""
    assert subject.broker.publish([]) == []


def test_one_outcome_for_each_message_in_order(subject: Subject) -> None:
    """A large page of many keys: as many outcomes, all delivered, in order per key."""
    page = [
        message for batch in range(20) for key in "abcde" for message in envelopes(batch, key=key)
    ]

    assert subject.broker.publish(page) == [CONFIRMED] * 100
    received = subject.received()
    for key in "abcde":
        assert [m.id for m in received if m.key == key] == [m.id for m in page if m.key == key]


def test_many_messages_of_one_key_keep_their_order(subject: Subject) -> None:
    """One hot key: delivered in the order of the page."""
    page = envelopes(*range(50))
    subject.broker.publish(page)

    assert [m.id for m in subject.received()] == [m.id for m in page]


def test_close_lets_it_start_again(subject: Subject) -> None:
    """After close() the next publish works; closing twice is no error."""
    subject.broker.publish(envelopes(1))
    subject.broker.close()
    subject.broker.close()

    assert subject.broker.publish(envelopes(2)) == [CONFIRMED]
    assert len(subject.received()) == 2


def test_capabilities_are_declared(subject: Subject) -> None:
    """An adapter that is part of this project confirms, orders and keeps."""
    broker = type(subject.broker)

    assert broker.confirms
    assert broker.ordered
    assert broker.durable
    assert "guest:guest" not in subject.broker.address


def test_an_unroutable_message_is_refused_and_holds_only_its_key(amqp: Subject) -> None:
    """No queue for a topic: unroutable, later messages of its key held, other keys confirmed."""
    first, second = envelopes(1, 2)
    lost = type(first)(
        **{name: getattr(first, name) for name in first.__struct_fields__} | {"topic": "tests.lost"}
    )
    other = envelopes(3, key="b")[0]

    outcomes = amqp.broker.publish([lost, second, other])
    assert [outcome.status for outcome in outcomes] == [
        Status.UNROUTABLE,
        Status.HELD,
        Status.CONFIRMED,
    ]
    assert "tests.lost" in outcomes[0].reason
    assert [m.id for m in amqp.received()] == [other.id]


def test_a_failing_handler_is_the_inboxs_to_try_again(local: Subject) -> None:
    """Local: what failed is kept with its receipt, so the relay goes on as with a broker."""
    first, second = envelopes(1, 2)
    other = envelopes(3, key="b")[0]
    local.refuse(first)
    with transaction.atomic():
        outcomes = local.broker.publish([first, second, other])

    assert [outcome.status for outcome in outcomes] == [Status.CONFIRMED] * 3
    assert local.received() == [second, other]
