"""Which way a task's message goes: into the outbox, or straight to Celery's broker."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from celery import Celery, signals
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import atomic
from kombu import Producer

from outbox.celery.context import headers_of
from outbox.celery.producer import OutboxProducer
from outbox.conf import outbox_settings
from outbox.context import current_context
from outbox.emitting import in_transaction, write_database
from outbox.exceptions import TransactionRequired

_direct: ContextVar[bool] = ContextVar("outbox_celery_direct", default=False)
_worker = False
_warned: set[str] = set()
logger = logging.getLogger("outbox")


@contextmanager
def straight() -> Iterator[None]:
    """Send everything within the block straight to the broker."""
    token = _direct.set(True)
    try:
        yield
    finally:
        _direct.reset(token)


@contextmanager
def delivery(
    app: Celery, *, using: str | None, outbox: bool, producer: Producer | None = None
) -> Iterator[Producer | None]:
    """Yield the producer to publish with; None for one of Celery's own.

    In a transaction of the database that is the outbox's, whatever `producer` was given: Celery
    gives the members of a group one from its pool. Outside, as OUTBOX["CELERY_OUTSIDE"] says; but
    a producer that was given is used, and what a worker sends goes straight to the broker, since
    it is mostly Celery itself that sends there: the next of a chain, the body of a chord, retries.
    """
    given = None if isinstance(producer, OutboxProducer) else producer
    if _direct.get() or not outbox:
        yield given
        return
    alias = using or write_database()
    if in_transaction(connections[alias]):
        yield OutboxProducer(app, alias)
        return
    _warn_of_other_transactions(alias)
    policy = outbox_settings().CELERY_OUTSIDE
    if policy == "direct" or _worker or given is not None:
        yield given
    elif policy == "own":
        with atomic(using=alias):
            yield OutboxProducer(app, alias)
    else:
        block = "" if alias == DEFAULT_DB_ALIAS else f"using={alias!r}"
        raise TransactionRequired(
            f"A task is sent outside a transaction on the database {alias!r}, which "
            "OUTBOX['CELERY_OUTSIDE'] makes an error. Wrap it and your data in "
            f"transaction.atomic({block}), or send it with outbox=False."
        )


def _warn_of_other_transactions(alias: str) -> None:
    """Say once of each database that a transaction there does not hold tasks back."""
    opened = [each for each in connections.all(initialized_only=True) if each.connection]
    others = {each.alias for each in opened if in_transaction(each)}
    for other in sorted(others - _warned):
        _warned.add(other)
        logger.warning(
            "A Celery task was sent in a transaction on the database %r, whose rollback does not "
            "take it back: the outbox is on %r. Give the task, or the app, outbox_using=%r and "
            "migrate the outbox there, or put the data on %r. This is told once for each database.",
            other,
            alias,
            other,
            alias,
        )


@contextmanager
def sending(app: Celery, **choice: Any) -> Iterator[Producer | None]:
    """Yield what delivery() does; whatever is sent within the block goes the same way."""
    with ExitStack() as stack:
        chosen = stack.enter_context(delivery(app, **choice))
        if not isinstance(chosen, OutboxProducer):
            stack.enter_context(straight())
        yield chosen


def with_context(headers: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a task's headers with those of the current context that they lack."""
    found = dict(headers_of(current_context()))
    return found | dict(headers or {}) or None


@signals.worker_init.connect
def _in_worker(**_: Any) -> None:
    """Note that this process is a worker's; the children that it forks inherit that."""
    global _worker
    _worker = True
