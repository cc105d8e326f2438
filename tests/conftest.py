"""Fixtures for all tests."""

from collections.abc import Iterator
from weakref import WeakSet

import pytest
from django.db import connection

from outbox.celery import known
from project import database_url as database_urls
from tests.services import broker
from tests.services.rabbitmq import RabbitNode
from tests.support import Registered


@pytest.fixture(scope="session")
def database_url(django_db_setup: None) -> str:
    """The URL of the test database, for DATABASE_URL of child processes."""
    return database_urls.compose(connection.settings_dict)


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    """The URL of a running RabbitMQ, which others may be using: never stop it."""
    if url := broker.running_url():
        yield url
        return
    node = broker.start_private_node()
    yield node.url
    node.close()


@pytest.fixture(scope="session")
def _rabbit_node() -> Iterator[RabbitNode]:
    node = broker.start_private_node()
    yield node
    node.close()


@pytest.fixture
def rabbit_node(_rabbit_node: RabbitNode) -> RabbitNode:
    """A running RabbitMQ node of our own, to stop(), kill(), pause() and start() again.

    The node is shared by the tests that ask for it, one after the other, and keeps its data: use
    names of exchanges and queues that no other test uses.
    """
    _rabbit_node.resume()
    _rabbit_node.start()
    return _rabbit_node


@pytest.fixture(autouse=True)
def _no_celery_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system checks know no Celery app but those of the test."""
    monkeypatch.setattr(known, "apps", WeakSet())


@pytest.fixture
def registered() -> Iterator[Registered]:
    """Registers event types for one test."""
    found = Registered()
    yield found
    found.forget()
