"""Fail a test at once that would reach a real broker, or run a relay that can see nothing."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from django.db import connections

from outbox.amqp import urls
from outbox.exceptions import NotInTests
from outbox.guards import Guard, use_guard

_ALLOW = (
    "A test that is about the broker is marked with @pytest.mark.outbox_broker, or does it within "
    "outbox.testing.allow_broker()."
)


class _NoBroker(Guard):
    def connects(self, address: str) -> None:
        raise NotInTests(
            f"A connection to the broker at {address} would be opened, and tests reach none. "
            "outbox.testing.drain() hands what was emitted to the handlers, without a relay and a "
            f"consumer; emitted() and sent_tasks() tell what would be published. {_ALLOW}"
        )

    def sends(self, app: Any, producer: Any) -> None:
        if (address := _real_address(app, producer)) is None:
            return
        raise NotInTests(
            f"A Celery task would go straight to the broker at {address}, and tests reach none. "
            "Sent within transaction.atomic() it goes into the outbox, where sent_tasks() finds "
            "it; the transaction around a TestCase is not the code's, which would send it outside "
            "one in production as well. To run tasks at once, set CELERY_TASK_ALWAYS_EAGER. "
            f"{_ALLOW}"
        )

    def relays(self, using: str) -> None:
        if connections[using].in_atomic_block:
            raise NotInTests(
                f"A relay would run within an open transaction on the database {using!r}, as "
                "around a TestCase or in pytest-django's db: relay and relay_replay publish what "
                "has committed, and here nothing does. outbox.testing.drain() hands what was "
                "emitted to the handlers here. For a real relay take a TransactionTestCase, or "
                "@pytest.mark.django_db(transaction=True)."
            )


def no_broker() -> AbstractContextManager[None]:
    """Let nothing reach a real broker during the block, in no thread: what tries raises NotInTests.

    That is a task of OutboxTask or OutboxCelery that goes straight to Celery's broker, a relay or a
    consumer that connects to one, and a relay or replay within a transaction, where none commits.
    kombu's in-memory transport is no real broker. The pytest plugin does this around each test.
    """
    return use_guard(_NoBroker())


def allow_broker() -> AbstractContextManager[None]:
    """Let the block reach the real broker, within a test that else must not."""
    return use_guard(Guard())


class NoBrokerMixin:
    """Mix into a TestCase, left of it: none of its tests reaches a real broker; see no_broker().

    For whoever does not use pytest, whose plugin does the same.
    """

    addClassCleanup: Callable[..., Any]  # noqa: N815 - of unittest.TestCase

    @classmethod
    def setUpClass(cls) -> None:
        """Let nothing reach a real broker until the tests of the class are over."""
        guarding = no_broker()
        guarding.__enter__()
        cls.addClassCleanup(guarding.__exit__, None, None, None)
        super().setUpClass()  # type: ignore[misc]


def _real_address(app: Any, producer: Any) -> str | None:
    """Return where a task would go, without credentials; None if that is within this process."""
    from kombu import Connection  # noqa: PLC0415 - whoever sends a task has imported it

    link = getattr(producer, "connection", None) or app.connection_for_write()
    if not isinstance(link, Connection):
        return None  # a stand-in of the test's own
    if link.get_transport_cls().driver_type == "memory":
        return None
    return urls.shown(link.as_uri())
