"""Fixtures for the tests of brokers."""

from collections.abc import Iterator

import pytest

from relay.brokers.amqp.broker import AMQPBroker
from tests.relay.brokers.queues import Queue


@pytest.fixture
def queue(broker_url: str) -> Iterator[Queue]:
    made = Queue(broker_url)
    made.declare()
    yield made
    made.delete()


@pytest.fixture
def broker(queue: Queue) -> Iterator[AMQPBroker]:
    made = queue.broker()
    yield made
    made.close()
