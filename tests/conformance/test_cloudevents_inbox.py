"""The wire, checked against the official CloudEvents SDK, through a real RabbitMQ."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import kombu
import pytest
from amqp.basic_message import Message
from cloudevents.core.bindings import rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from django.db import transaction

import outbox
from inbox.models import DeadLetter, Receipt
from outbox.message.context import use_context
from outbox.message.envelope import Envelope
from relay.brokers.amqp.broker import AMQPBroker
from relay.brokers.base import CONFIRMED
from tests.inbox.support import Handling, Queue, happened, make_queue
from tests.kit.support import Registered
from tests.testapp.events import Happened

pytestmark = pytest.mark.django_db(transaction=True)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TIME = datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC)


class Received(list[tuple[Any, Envelope]]):
    """A handler that keeps what it is given."""

    def __call__(self, event: Any, message: Envelope) -> None:
        self.append((event, message))


@pytest.fixture
def received() -> Received:
    return Received()


@pytest.fixture
def queue(broker_url: str, received: Received) -> Iterator[Queue]:
    """A queue whose messages end in `received`."""
    found = make_queue(broker_url)
    handling = Handling(found.name)
    handling(received, pattern="tests.#")
    found.declare()
    yield found
    handling.forget()
    found.delete()


@pytest.fixture
def registered() -> Iterator[Registered]:
    """Registers event types for one test."""
    found = Registered()
    yield found
    found.forget()


def publish(queue: Queue, message: rabbitmq.RabbitMQMessage, routing_key: str) -> None:
    """Publish as any program does that knows kombu and the SDK."""
    with kombu.Connection(queue.url, transport_options={"confirm_publish": True}) as connection:
        connection.Producer().publish(
            message.body,
            exchange=queue.exchange,
            routing_key=routing_key,
            headers=message.headers,
            content_type=message.content_type,
            content_encoding="utf-8",
        )


# --- From the SDK to us --------------------------------------------------------------------------


def test_an_event_of_the_sdk_is_handled(queue: Queue, received: Received) -> None:
    """Typed, with every attribute in its place, the data byte for byte."""
    event = CloudEvent(
        {
            "id": "A234-1234-1234",
            "source": "https://example.com/elsewhere",
            "type": "tests.happened",
            "time": TIME,
            "subject": "näher",
            "datacontenttype": "application/json",
            "partitionkey": "k",
            "correlationid": "flow",
            "causationid": "parent",
            "traceparent": TRACE,
            "tenant": "blue",
        },
        {"key": "k", "number": 7},
    )
    message = rabbitmq.to_binary(event, JSONFormat())

    publish(queue, message, "tests.happened")
    queue.drain()

    [(payload, envelope)] = received
    assert payload == Happened("k", 7)
    assert envelope == Envelope(
        id="A234-1234-1234",
        source="https://example.com/elsewhere",
        type="tests.happened",
        topic="tests.happened",
        data=message.body,
        time=TIME,
        subject="näher",
        key="k",
        correlation_id="flow",
        causation_id="parent",
        trace_parent=TRACE,
        attributes={"tenant": "blue"},
    )


def test_the_least_that_the_sdk_sends_is_handled_once(queue: Queue, received: Received) -> None:
    """Required attributes only; sent twice, handled once."""
    event = CloudEvent({"source": "/s", "type": "tests.happened"}, {"key": "k", "number": 1})
    message = rabbitmq.to_binary(event, JSONFormat())

    # By py-amqp: kombu would put a content type of its own in the place of none.
    raw = Message(message.body, application_headers=message.headers)
    queue.publish_raw((raw, "tests.happened"), (raw, "tests.happened"))
    consumer = queue.drain()

    [(payload, envelope)] = received
    assert payload == Happened("k", 1)
    assert envelope.id == event.get_id()
    assert envelope.correlation_id is None
    assert consumer.progress.duplicates == 1
    assert Receipt.objects.get().message_id == event.get_id()


def test_binary_data_of_the_sdk_arrives_as_it_is(queue: Queue, received: Received) -> None:
    """Another content type than JSON comes as bytes."""
    data = bytes(range(256))
    event = CloudEvent(
        {"source": "/s", "type": "tests.picture", "datacontenttype": "image/png"}, data
    )

    publish(queue, rabbitmq.to_binary(event, JSONFormat()), "tests.picture")
    queue.drain()

    [(payload, envelope)] = received
    assert payload == data
    assert envelope.content_type == "image/png"


@pytest.mark.parametrize("declared", [{}, {"ce-datacontenttype": "application/json"}])
def test_an_event_that_kombu_sends_without_a_content_type_is_json(
    declared: dict[str, str], queue: Queue, received: Received
) -> None:
    """What kombu writes in its place, application/data, says nothing."""
    event = CloudEvent({"source": "/s", "type": "tests.happened"}, {"key": "k", "number": 1})
    message = rabbitmq.to_binary(event, JSONFormat())
    message = rabbitmq.RabbitMQMessage(message.headers | declared, None, message.body)

    publish(queue, message, "tests.happened")
    with queue.channel() as channel:
        raw = channel.basic_get(queue.name)
        assert raw.properties["content_type"] == "application/data"
        channel.basic_reject(raw.delivery_tag, requeue=True)
    queue.drain()

    [(payload, envelope)] = received
    assert payload == Happened("k", 1)
    assert envelope.content_type == "application/json"


def test_an_event_that_kombu_sends_without_a_content_type_may_declare_one(
    queue: Queue, received: Received
) -> None:
    """The attribute of CloudEvents goes before JSON."""
    headers = rabbitmq.to_binary(
        CloudEvent({"source": "/s", "type": "tests.picture"}, {}), JSONFormat()
    ).headers | {"ce-datacontenttype": "image/png"}

    publish(queue, rabbitmq.RabbitMQMessage(headers, None, b"\x89PNG"), "tests.picture")
    queue.drain()

    [(payload, envelope)] = received
    assert (payload, envelope.content_type) == (b"\x89PNG", "image/png")


def events_of_the_sdk() -> list[CloudEvent]:
    """One with every attribute, one with the least, one with text and one with bytes."""
    everything = {
        "id": "A234-1234-1234",
        "source": "https://example.com/elsewhere",
        "type": "tests.happened",
        "time": TIME,
        "subject": "näher",
        "datacontenttype": "application/json",
        "dataschema": "https://example.com/schema",
        "partitionkey": "k",
        "correlationid": "flow",
        "causationid": "parent",
        "traceparent": TRACE,
        "tenantofthesenderofthis": "blue" * 100,
    }
    text = {"source": "/s", "type": "tests.text", "datacontenttype": "text/plain"}
    picture = {"source": "/s", "type": "tests.picture", "datacontenttype": "image/png"}
    return [
        CloudEvent(everything, {"key": "k", "number": 7}),
        CloudEvent({"source": "/s", "type": "tests.happened"}, {"key": "k", "number": 1}),
        CloudEvent(text, "näh"),
        CloudEvent(picture, bytes(range(256))),
    ]


def check_received(received: Received, events: list[CloudEvent]) -> None:
    payloads, envelopes = zip(*received, strict=True)
    assert payloads == (Happened("k", 7), Happened("k", 1), "näh".encode(), bytes(range(256)))
    assert [each.id for each in envelopes] == [event.get_id() for event in events]
    assert [each.time for each in envelopes] == [event.get_time() for event in events]
    assert envelopes[0] == Envelope(
        id="A234-1234-1234",
        source="https://example.com/elsewhere",
        type="tests.happened",
        topic="tests.happened",
        data=b'{"key": "k", "number": 7}',
        time=TIME,
        subject="näher",
        key="k",
        correlation_id="flow",
        causation_id="parent",
        trace_parent=TRACE,
        attributes={
            "dataschema": "https://example.com/schema",
            "tenantofthesenderofthis": "blue" * 100,
        },
    )
    assert DeadLetter.objects.count() == 0


def test_structured_events_of_the_sdk_are_handled(queue: Queue, received: Received) -> None:
    """Whole events in JSON: every attribute in its place, data as it was."""
    events = events_of_the_sdk()
    for event in events:
        message = rabbitmq.to_structured(event, JSONFormat())
        assert message.content_type == "application/cloudevents+json"
        publish(queue, message, "tests.happened")
    queue.drain()

    check_received(received, events)


def test_a_batch_of_events_of_the_sdk_is_handled(queue: Queue, received: Received) -> None:
    """The batch format is a list of such events; the SDK writes each, and has no list."""
    events = events_of_the_sdk()
    body = b"[" + b", ".join(JSONFormat().write(event) for event in events) + b"]"
    kind = "application/cloudevents-batch+json; charset=utf-8"
    publish(queue, rabbitmq.RabbitMQMessage({}, kind, body), "tests.happened")
    consumer = queue.drain()

    check_received(received, events)
    assert consumer.progress.handled == 4
    assert Receipt.objects.count() == 4


# --- From us to the SDK --------------------------------------------------------------------------


class Verbatim(JSONFormat):
    """Leaves the data alone, to compare it byte for byte."""

    def read_data(self, body: bytes, *_: Any) -> bytes:
        return body


def relayed(queue: Queue, envelope: Envelope) -> tuple[CloudEvent, Any]:
    """Publish with our broker adapter; return what the SDK makes of the message, and its data."""
    broker = AMQPBroker.from_settings(queue.url, {"EXCHANGE": queue.exchange}, using="default")
    try:
        assert broker.publish([envelope]) == [CONFIRMED]
    finally:
        broker.close()
    with queue.channel() as channel:
        raw = channel.basic_get(queue.name, no_ack=True)
    body = raw.body if isinstance(raw.body, bytes) else raw.body.encode()
    message = rabbitmq.RabbitMQMessage(
        headers=raw.properties["application_headers"],
        content_type=raw.properties["content_type"],
        body=body,
    )
    parsed: Any = rabbitmq.from_binary(message, Verbatim())
    assert isinstance(parsed, CloudEvent)
    assert raw.properties["message_id"] == parsed.get_id()
    return parsed, rabbitmq.from_binary(message, JSONFormat()).get_data()


def test_an_emitted_event_is_parsed_by_the_sdk(queue: Queue) -> None:
    """Attributes are equal, data is byte for byte what was emitted."""
    with (
        transaction.atomic(),
        use_context(correlation_id="flow", causation_id="parent", trace_parent=TRACE),
    ):
        envelope = outbox.emit(
            Happened("schlüssel", 7), subject="s", attributes={"tenant": "blue", "vip": True}
        )

    event, data = relayed(queue, envelope)

    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": "tests.happened",
        "time": envelope.time,
        "subject": "s",
        "datacontenttype": "application/json",
        "dataversion": "1",
        "partitionkey": "schlüssel",
        "correlationid": "flow",
        "causationid": "parent",
        "traceparent": TRACE,
        "tenant": "blue",
        "vip": "true",
    }
    assert event.get_data() == envelope.data
    assert data == {"key": "schlüssel", "number": 7}


@pytest.mark.parametrize("data", [b"", b"\x00\xff\xfe", bytes(range(256)) * 1000])
def test_bytes_are_parsed_by_the_sdk(data: bytes, queue: Queue, registered: Registered) -> None:
    """Whatever they are, also many."""
    registered("tests.blob")
    with transaction.atomic():
        envelope = outbox.emit("tests.blob", data, content_type="application/octet-stream")

    event, _ = relayed(queue, envelope)

    assert event.get_data() == data
    assert event.get_datacontenttype() == "application/octet-stream"


def test_what_we_publish_is_what_we_receive(queue: Queue, received: Received) -> None:
    """Through relay, broker and consumer the envelope stays equal."""
    envelope = happened(
        3, time=TIME, subject="s", correlation_id="c", attributes={"a": "b"}, trace_state="x=y"
    )
    broker = AMQPBroker.from_settings(queue.url, {"EXCHANGE": queue.exchange}, using="default")
    broker.publish([envelope])
    broker.close()

    queue.drain()

    assert received == [(Happened("k", 3), envelope)]
