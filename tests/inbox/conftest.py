"""Fixtures for the tests of the consumer."""

from collections.abc import Iterator

import hypothesis
import pytest

from tests.inbox.support import Handling, Queue, make_queue
from tests.services.rabbitmq import RabbitNode

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def handling() -> Iterator[Handling]:
    """Registers handlers for one test, in group "g" unless they say otherwise."""
    found = Handling()
    yield found
    found.forget()


@pytest.fixture
def queue(broker_url: str, handling: Handling) -> Iterator[Queue]:
    """A queue on the broker that all tests share; handlers of the test are in its group."""
    found = make_queue(broker_url)
    handling.group = found.name
    yield found
    found.delete()


@pytest.fixture
def own_queue(rabbit_node: RabbitNode, handling: Handling) -> Iterator[Queue]:
    """A queue on a broker that the test may stop."""
    found = make_queue(rabbit_node.url)
    handling.group = found.name
    yield found
    rabbit_node.resume()
    rabbit_node.start()
    found.delete()
