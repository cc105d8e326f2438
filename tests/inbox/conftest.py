"""Fixtures for the tests of the consumer."""

import logging
from collections.abc import Callable, Iterator

import hypothesis
import pytest
from django.db import connection, connections

from tests.inbox.support import Handling, Queue, make_queue, records
from tests.kit.services.rabbitmq import RabbitNode

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def queue(broker_url: str, handling: Handling) -> Iterator[Queue]:
    """A queue on the broker that all tests share; handlers of the test are in its group."""
    found = make_queue(broker_url)
    handling.group = found.name
    yield found
    found.delete()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """What the inbox has said that begins so."""
    caplog.set_level(logging.INFO, "inbox")
    return lambda start: records(caplog, start)


@pytest.fixture
def own_queue(rabbit_node: RabbitNode, handling: Handling) -> Iterator[Queue]:
    """A queue on a broker that the test may stop."""
    found = make_queue(rabbit_node.url)
    handling.group = found.name
    yield found
    rabbit_node.resume()
    rabbit_node.start()
    found.delete()


@pytest.fixture(scope="module")
def _second_alias(django_db_setup: None) -> Iterator[None]:
    """A second alias, with sessions of its own on the same server."""
    mirror = {"TEST": {**connection.settings_dict["TEST"], "MIRROR": "default"}}
    connections.settings["second"] = connection.settings_dict | mirror
    yield
    del connections.settings["second"]
