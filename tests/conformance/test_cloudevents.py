"""CloudEvents 1.0 against the official SDK, in both directions."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from cloudevents.core.bindings.rabbitmq import RabbitMQMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from django.db import transaction

import outbox
from outbox.message import cloudevents, codec
from outbox.message.event_types import registry
from tests.outbox.helpers import PLAIN
from tests.outbox.placed import Placed


class Raw(JSONFormat):
    """A format that leaves the data as it is, to compare it byte for byte."""

    def read_data(self, body: bytes, datacontenttype: str | None) -> Any:
        return body


def sent(envelope: outbox.Envelope) -> RabbitMQMessage:
    return RabbitMQMessage(cloudevents.to_headers(envelope), envelope.content_type, envelope.data)


def received(message: RabbitMQMessage) -> outbox.Envelope:
    return cloudevents.from_message(message.headers, message.content_type, message.body)


@dataclass(frozen=True)
class Case:
    event: object
    payload: Any
    options: dict[str, Any]
    data: Any


CASES = {
    "object": Case(Placed(7, "näh"), None, {}, {"order_id": 7, "note": "näh"}),
    "everything": Case(
        "tests.plain",
        {"total": Decimal("1.50"), "list": [None, True, 1.5]},
        {
            "key": "k ö",
            "subject": "thing/1",
            "correlation_id": "flow",
            "causation_id": "parent",
            "attributes": {"tenant": "ä", "count": 7, "flag": True},
        },
        {"total": "1.50", "list": [None, True, 1.5]},
    ),
    "bytes": Case("tests.plain", bytes(range(256)), {"content_type": "application/x-thing"}, None),
    "text": Case("tests.plain", "ä".encode(), {"content_type": "text/plain"}, "ä"),
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", CASES)
def test_our_message_is_parsed_by_the_sdk(name: str):
    """The SDK sees every attribute as we meant it, and the data byte for byte."""
    case = CASES[name]
    trace = {"trace_parent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "trace_state": "a=1"}
    with outbox.use_context(**trace), transaction.atomic():
        envelope = outbox.emit(case.event, case.payload, **case.options)

    event = from_binary(sent(envelope), Raw(), CloudEvent)
    expected = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
        "time": envelope.time,
        "datacontenttype": envelope.content_type,
        "dataversion": str(envelope.version),
        "subject": envelope.subject,
        "partitionkey": envelope.key,
        "correlationid": envelope.correlation_id,
        "causationid": envelope.causation_id,
        "traceparent": trace["trace_parent"],
        "tracestate": "a=1",
        **{name: cloudevents.canonical(value) for name, value in envelope.attributes.items()},
    }
    assert event.get_attributes() == {k: v for k, v in expected.items() if v is not None}
    assert event.get_data() == envelope.data

    if case.data is not None:
        assert from_binary(sent(envelope), JSONFormat(), CloudEvent).get_data() == case.data


@pytest.mark.parametrize(
    "attributes",
    [
        {"id": "1", "source": "/other", "type": "tests.plain"},
        {
            "id": "A-1",
            "source": "https://example.org/ö?a=b",
            "type": "tests.plain",
            "time": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
            "subject": "s",
            "datacontenttype": "application/json",
            "dataschema": "https://example.org/schema",
            "partitionkey": "k",
            "traceparent": "00-1-2-01",
            "tenant": "x",
        },
    ],
    ids=["minimum", "everything"],
)
def test_a_message_of_the_sdk_is_decoded_by_us(attributes: dict[str, Any]):
    """We see the attributes and the data of an event that the SDK has written."""
    data = {"a": [1, "ä", None]}
    message = to_binary(CloudEvent(dict(attributes), data), JSONFormat())
    envelope = received(message)

    for name, value in attributes.items():
        field = {"datacontenttype": "content_type", "partitionkey": "key"}.get(name, name)
        field = {"traceparent": "trace_parent"}.get(field, field)
        own = field in outbox.Envelope.__struct_fields__
        assert (getattr(envelope, field) if own else envelope.attributes[name]) == value
    assert envelope.data == message.body
    assert codec.decode(envelope, registry.named(PLAIN.name)) == data


def test_a_typed_event_of_the_sdk():
    """Data that the SDK has written becomes an instance of the event's class."""
    event = CloudEvent({"id": "1", "source": "/o", "type": "tests.placed"}, {"order_id": 7})
    envelope = received(to_binary(event, JSONFormat()))

    assert codec.decode(envelope, registry.named("tests.placed")) == Placed(7)


def test_an_event_without_data():
    """An event of the SDK may have no data at all."""
    event = CloudEvent({"id": "1", "source": "/other", "type": "tests.plain"}, None)
    message = to_binary(event, JSONFormat())
    envelope = received(RabbitMQMessage(message.headers, message.content_type, b""))

    assert codec.decode(envelope, PLAIN) is None


def test_there_and_back():
    """A message that was ours, read and written by the SDK, is ours again."""
    envelope = outbox.Envelope(
        "1", "/s", "tests.plain", b'{"a": 1}', time=datetime(2026, 1, 2, tzinfo=UTC), key="k"
    )
    message = to_binary(from_binary(sent(envelope), JSONFormat(), CloudEvent), JSONFormat())
    again = received(message)

    assert json.loads(again.data) == json.loads(envelope.data)
    fields = set(outbox.Envelope.__struct_fields__) - {"data"}
    assert {f: getattr(again, f) for f in fields} == {f: getattr(envelope, f) for f in fields}
