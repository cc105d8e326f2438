"""The end of a queue: when a consumer that stops at it may stop."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from inbox.sources.amqp.subscription import Subscription
from inbox.sources.base import SourceAway
from tests.inbox.support import Handling, Queue, topics_of_group
from tests.kit.services.rabbitmq import RabbitNode

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def subscription(own_queue: Queue, handling: Handling) -> Iterator[Subscription]:
    """A consumer of an empty queue, on a broker of our own."""
    handling()
    own_queue.declare()
    found = Subscription(own_queue.name, url=own_queue.url, conf=own_queue.conf)
    found.open(topics_of_group(own_queue.name))
    yield found
    found.drop()


@contextmanager
def busy(node: RabbitNode, queue: Queue) -> Iterator[None]:
    """Let the process that holds the queue do nothing during the block."""
    process = f'whereis(list_to_atom("%2F_{queue.queue}"))'
    node.ctl("eval", f"sys:suspend({process}).")
    try:
        yield
    finally:
        node.ctl("eval", f"sys:resume({process}).")


@pytest.mark.slow
def test_a_busy_broker_is_not_taken_for_an_empty_queue(
    rabbit_node: RabbitNode, own_queue: Queue, subscription: Subscription
) -> None:
    """Of a queue that does not answer in time it says that it is empty, and unused."""
    with ThreadPoolExecutor() as pool:
        with busy(rabbit_node, own_queue):
            with own_queue.channel() as channel:
                asked = channel.queue_declare(own_queue.queue, passive=True)
                assert (asked.message_count, asked.consumer_count) == (0, 0)
            empty = pool.submit(subscription.is_empty)
            time.sleep(0.5)
            assert not empty.done()
        assert empty.result(30)


@pytest.mark.slow
def test_a_broker_that_stays_busy_is_away(
    rabbit_node: RabbitNode, own_queue: Queue, subscription: Subscription
) -> None:
    """Neither is it asked for ever."""
    with busy(rabbit_node, own_queue), pytest.raises(SourceAway, match="does not say what queue"):
        subscription.is_empty()
