"""Fixtures for all tests."""

import logging
from collections.abc import Iterator
from weakref import WeakSet

import pytest
from django.db import connection
from django.test import Client
from django.utils import translation

from inbox.handlers.registry import handlers
from outbox.celery import apps_in_use
from outbox.producer import wakeup
from project import database_url as database_urls
from relay.sql import log as sql
from tests.inbox.support import Handling
from tests.kit.admin_pages import ALL_MODELS, log_in
from tests.kit.services import broker
from tests.kit.services.rabbitmq import RabbitNode
from tests.kit.support import Registered


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
    monkeypatch.setattr(apps_in_use, "apps", WeakSet())


@pytest.fixture
def handling() -> Iterator[Handling]:
    """Registers handlers for one test, in group "g" unless they say otherwise."""
    found = Handling()
    yield found
    found.forget()


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Fail a test that leaves another level of the logging behind, which others would suffer."""
    before = logging.getLogger().level
    yield
    assert logging.getLogger().level == before


@pytest.fixture(autouse=True)
def _language_as_it_was() -> Iterator[None]:
    """Forget the language of a test's requests: Django leaves it on the thread."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def _handlers_as_they_were() -> Iterator[None]:
    """Have those handlers again that a test removes: others may be tests of what they do."""
    before = list(handlers)
    yield
    for each in before:
        if handlers.get(each.name) is None:
            handlers.add(each)


@pytest.fixture
def registered() -> Iterator[Registered]:
    """Registers event types for one test."""
    found = Registered()
    yield found
    found.forget()


@pytest.fixture(autouse=True)
def _each_commit_notifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no NOTIFY stand in for a later one's: who counts statements counts the same each time."""
    monkeypatch.setattr(wakeup, "QUIET_SECONDS", 0.0)


@pytest.fixture
def on_disk_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all that is visible count as flushed, whatever others write to the server's log."""
    flushed, end = "pg_current_wal_flush_lsn()", "pg_current_wal_insert_lsn()"
    assert flushed in sql.PG_CURSOR
    monkeypatch.setattr(sql, "PG_CURSOR", sql.PG_CURSOR.replace(flushed, end))


@pytest.fixture
def viewer(client: Client) -> Client:
    """Staff who may view everything of ours, and do nothing about it."""
    log_in(client, *ALL_MODELS)
    return client
