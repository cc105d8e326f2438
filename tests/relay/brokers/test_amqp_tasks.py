"""Tasks on RabbitMQ whose queue or exchange is not as it should be."""

import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection

from outbox.message import celery_task
from outbox.message.celery_task import (
    CONTENT_TYPE,
    ExchangeDeclaration,
    QueueDeclaration,
    TaskMessage,
)
from outbox.message.envelope import Envelope
from relay.brokers.amqp.broker import AMQPBroker
from relay.brokers.base import CONFIRMED, Status
from tests.kit.services.rabbitmq import RabbitNode


@pytest.fixture
def broker(broker_url: str) -> Iterator[AMQPBroker]:
    broker = AMQPBroker.from_settings(broker_url, {}, using="default")
    broker.messages = "tasks"
    yield broker
    broker.close()


@pytest.fixture
def queue(broker_url: str) -> Iterator[str]:
    name = f"tasks-{uuid.uuid4()}"
    yield name
    with Connection(broker_url) as link:
        link.channel().queue_delete(name)


def task(
    queue: str,
    *,
    exchange: str = "",
    exchange_declaration: ExchangeDeclaration | None = None,
    encoding: str | None = None,
    **declared: Any,
) -> Envelope:
    message_id = str(uuid.uuid4())
    message = TaskMessage(
        exchange=exchange,
        routing_key=queue,
        headers={"task": "unit.add", celery_task.MESSAGE_ID: message_id},
        properties={
            "content_type": "application/json",
            "delivery_mode": 2,
            **({"content_encoding": encoding} if encoding else {}),
        },
        body="[]",
        declare=(
            [QueueDeclaration(name=queue, exchange=exchange_declaration, **declared)]
            if declared
            else []
        ),
    )
    return Envelope(
        id=message_id,
        source="/t",
        type="celery.task",
        data=celery_task.encode(message),
        content_type=CONTENT_TYPE,
        topic="unit.add",
    )


def test_a_bad_task_delays_no_other(broker: AMQPBroker, queue: str) -> None:
    """Missing exchange, refused declaration, no queue, no task at all: each is refused alone."""
    good = task(queue, durable=True)
    page = [
        good,
        task(queue, exchange="no-such-exchange"),
        task(queue, durable=True, queue_arguments={"x-max-length": 7}),
        task("no-such-queue"),
        Envelope(id="x", source="/t", type="celery.task", data=b"{", content_type=CONTENT_TYPE),
        task(queue, durable=True),
    ]

    outcomes = broker.publish(page)

    assert [outcome.status for outcome in outcomes] == [
        Status.CONFIRMED,
        Status.REFUSED,
        Status.REFUSED,
        Status.UNROUTABLE,
        Status.REFUSED,
        Status.CONFIRMED,
    ]
    assert "no-such-exchange" in outcomes[1].reason
    assert "x-max-length" in outcomes[2].reason
    assert "no-such-queue" in outcomes[3].reason


def test_a_message_that_comes_back_imports_no_codec(broker: AMQPBroker) -> None:
    """Its encoding is the sender's word, and no module's name."""
    codec = "mac_farsi"
    assert f"encodings.{codec}" not in sys.modules

    [outcome] = broker.publish([task("no-such-queue", encoding=codec)])

    assert outcome.status is Status.UNROUTABLE
    assert f"encodings.{codec}" not in sys.modules


def test_an_exchange_that_vanishes_is_the_tasks_fault(
    broker: AMQPBroker, broker_url: str, queue: str
) -> None:
    """After it was seen: the broker closes the channel, others are sent again."""
    name = f"gone-{uuid.uuid4()}"
    first = task(queue, durable=True)
    with Connection(broker_url) as link:
        channel: Any = link.channel()
        channel.exchange_declare(name, "direct", durable=True, auto_delete=False)
        channel.queue_declare(queue, durable=True, auto_delete=False)
        channel.queue_bind(queue, name, queue)
        assert broker.publish([task(queue, exchange=name)]) == [CONFIRMED]
        channel.exchange_delete(name)

        outcomes = broker.publish([task(queue, exchange=name), first])

    assert [outcome.status for outcome in outcomes] == [Status.REFUSED, Status.CONFIRMED]
    assert "NOT_FOUND" in outcomes[0].reason


def test_a_declaration_that_closes_the_connection_holds_up_nothing_but_its_task(
    broker: AMQPBroker, queue: str
) -> None:
    """The broker ends the connection over it, once; then the task is refused and others pass."""
    odd = ExchangeDeclaration(name=f"odd-{uuid.uuid4()}", type="no-such-type")
    page = [
        task(queue, durable=True),
        task(f"odd-{queue}", durable=True, exchange_declaration=odd),
    ]

    first = broker.publish(page)
    second = broker.publish(page)

    assert {outcome.status for outcome in first} == {Status.UNKNOWN}
    assert [outcome.status for outcome in second] == [Status.CONFIRMED, Status.REFUSED]
    assert "no-such-type" in second[1].reason


@pytest.mark.parametrize(
    "declared",
    [
        {"queue_arguments": {"x-odd": "x" * 200_000}},
        {"queue_arguments": {"x" * 300: 1}},
        {"binding_arguments": {"x-odd": "x" * 200_000}},
    ],
)
def test_a_declaration_that_amqp_has_no_form_for_is_its_tasks_fault(
    broker: AMQPBroker, queue: str, declared: dict[str, Any]
) -> None:
    """Too large for a frame, or a name too long: refused, and others pass."""
    exchange = ExchangeDeclaration(name="amq.direct")
    bad = task(queue, durable=True, exchange_declaration=exchange, **declared)

    outcomes = broker.publish([bad, task(queue, durable=True)])

    assert [outcome.status for outcome in outcomes] == [Status.REFUSED, Status.CONFIRMED]
    assert "cannot be declared over AMQP" in outcomes[0].reason


def test_what_an_operator_declared_is_used_as_it_is(
    broker: AMQPBroker, broker_url: str, queue: str
) -> None:
    """Arguments that the task did not ask for; one that it asks for in vain is refused."""
    exchange = f"own-{queue}"
    declared = ExchangeDeclaration(name=exchange)
    with Connection(broker_url) as link:
        channel = link.channel()
        channel.queue_declare(
            queue, durable=True, auto_delete=False, arguments={"x-message-ttl": 60_000}
        )
        channel.exchange_declare(
            exchange,
            "direct",
            durable=True,
            auto_delete=False,
            arguments={"alternate-exchange": "amq.fanout"},
        )
    try:
        good = task(
            queue, exchange=exchange, exchange_declaration=declared, routing_key=queue, durable=True
        )
        bad = task(queue, durable=True, queue_arguments={"x-message-ttl": 5})
        outcomes = broker.publish([good, bad])
    finally:
        with Connection(broker_url) as link:
            link.channel().exchange_delete(exchange)

    assert [outcome.status for outcome in outcomes] == [Status.CONFIRMED, Status.REFUSED]
    assert "x-message-ttl" in outcomes[1].reason


def test_tasks_need_no_right_to_configure_what_is_there(
    rabbit_node: RabbitNode, queue: str
) -> None:
    """Celery's workers have declared it; the relay's user may only publish."""
    name = f"user-{uuid.uuid4().hex[:8]}"
    rabbit_node.ctl("add_user", name, "secret")
    rabbit_node.ctl("set_permissions", name, "^$", f"^({queue}|amq[.]default|amq[.]direct)$", "^$")
    url = rabbit_node.url.replace("guest:guest", f"{name}:secret")
    broker = AMQPBroker.from_settings(url, {}, using="default")
    broker.messages = "tasks"
    good = task(
        queue,
        exchange="amq.direct",
        exchange_declaration=ExchangeDeclaration(name="amq.direct"),
        routing_key=queue,
        durable=True,
    )
    with Connection(rabbit_node.url) as link:
        channel = link.channel()
        try:
            [missing] = broker.publish([good])
            channel.queue_declare(queue, durable=True, auto_delete=False)
            channel.queue_bind(queue, "amq.direct", queue)
            assert broker.publish([good, task(queue, durable=True)]) == [CONFIRMED] * 2
        finally:
            broker.close()
            channel.queue_delete(queue)

    assert missing.status is Status.REFUSED
    assert "ACCESS_REFUSED" in missing.reason


def test_refusals_leave_no_channel_open(broker: AMQPBroker, queue: str) -> None:
    broker.publish([task(queue, durable=True)])
    assert broker._connection is not None
    before = len(broker._connection.connection.channels)

    for length in range(1, 6):
        bad = task(queue, durable=True, queue_arguments={"x-max-length": length})
        assert broker.publish([bad])[0].status is Status.REFUSED

    assert len(broker._connection.connection.channels) == before


def test_a_queue_that_vanishes_is_declared_again(
    broker: AMQPBroker, broker_url: str, queue: str
) -> None:
    assert broker.publish([task(queue, durable=True)]) == [CONFIRMED]
    with Connection(broker_url) as link:
        link.channel().queue_delete(queue)

    [lost] = broker.publish([task(queue, durable=True)])
    [found] = broker.publish([task(queue, durable=True)])

    assert (lost.status, found.status) == (Status.UNROUTABLE, Status.CONFIRMED)
