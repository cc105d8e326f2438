"""What we write and read, held against the CloudEvents SDK."""

import uuid
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.rabbitmq import RabbitMQMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from django.db import transaction
from kombu import Connection

import outbox
from inbox.delivery import Delivery
from inbox.receiver import Batch
from outbox import wire
from relay.brokers.amqp import AMQPBroker
from relay.brokers.base import CONFIRMED
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_sdk_reads_what_we_publish(broker_url: str) -> None:
    """Through a real broker: equal attributes, and the data byte for byte."""
    with transaction.atomic(), outbox.use_context(correlation_id="flow", causation_id="parent"):
        envelope = outbox.emit(
            Happened("köln", 1), subject="s", attributes={"tenant": "t1", "retries": 3, "dry": True}
        )
    name = f"cloudevents-{uuid.uuid4()}"
    broker = AMQPBroker.from_settings(broker_url, {"EXCHANGE": name}, using="default")
    broker.publish([])
    with Connection(broker_url) as link:
        channel = link.channel()
        channel.queue_declare(name, durable=True, auto_delete=False)
        channel.queue_bind(name, name, routing_key="#")
        assert broker.publish([envelope]) == [CONFIRMED]
        raw = channel.basic_get(name, no_ack=True)
        channel.queue_delete(name)
        channel.exchange_delete(name)
    broker.close()
    body = raw.body if isinstance(raw.body, bytes) else raw.body.encode()
    assert body == envelope.data

    event = from_binary(
        RabbitMQMessage(
            headers=raw.properties["application_headers"],
            content_type=raw.properties["content_type"],
            body=body,
        ),
        JSONFormat(),
    )
    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": "tests.happened",
        "time": envelope.time,
        "subject": "s",
        "datacontenttype": "application/json",
        "dataversion": "1",
        "partitionkey": "köln",
        "correlationid": "flow",
        "causationid": "parent",
        "tenant": "t1",
        "retries": "3",
        "dry": "true",
    }
    assert event.get_data() == {"key": "köln", "number": 1}


def test_we_handle_what_the_sdk_writes() -> None:
    """A message that the SDK made is decoded and handled by the inbox, once."""
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    event = CloudEvent(
        attributes={
            "id": "foreign-1",
            "source": "https://example.org/shop",
            "type": "tests.happened",
            "time": time,
            "datacontenttype": "application/json",
            "partitionkey": "k",
            "extra": "kept",
        },
        data={"key": "k", "number": 7},
    )
    message = to_binary(event, JSONFormat())
    delivery = Delivery(
        headers=message.headers, body=message.body, content_type=message.content_type
    )
    envelope = delivery.decode()
    assert (envelope.id, envelope.source, envelope.type) == (
        "foreign-1",
        "https://example.org/shop",
        "tests.happened",
    )
    assert (envelope.time, envelope.key, envelope.version) == (time, "k", 1)
    assert envelope.attributes == {"extra": "kept"}
    assert wire.to_headers(envelope)["ce-time"] == "2026-01-02T03:04:05Z"

    [result] = Batch([delivery], using="default", group="tests").receive()
    assert result.settled
    assert list(Effect.objects.values_list("key", "number")) == [("k", 7)]
    [again] = Batch([delivery], using="default", group="tests").receive()
    assert again.duplicates == 1
