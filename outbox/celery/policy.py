"""Which way a task's message goes: into the outbox, or straight to Celery's broker."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from celery import Celery
from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import atomic
from kombu import Producer

from outbox.celery.context import headers_of
from outbox.celery.producer import OutboxProducer
from outbox.celery.workers import in_worker
from outbox.conf import has_settings, outbox_settings
from outbox.database.event_loop import in_event_loop, no_coroutine, recipe
from outbox.exceptions import ConfigurationError, TransactionRequired
from outbox.guards import guard
from outbox.message.context import current_context
from outbox.producer.writing import in_transaction, write_database
from outbox.tracing.hooks import here

_direct: ContextVar[bool] = ContextVar("outbox_celery_direct", default=False)
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
    app: Celery,
    *,
    using: str | None,
    outbox: bool,
    producer: Producer | None = None,
    key: Callable[[], str | None] = lambda: None,
) -> Iterator[Producer | None]:
    """Yield the producer to publish with; None for one of Celery's own.

    In a transaction of the database that is the outbox's, whatever `producer` was given: Celery
    gives the members of a group one from its pool. Outside, as OUTBOX["CELERY_OUTSIDE"] says; but
    a producer that was given is used, and what a worker sends goes straight to the broker, since
    it is mostly Celery itself that sends there: the next of a chain, the body of a chord, retries.
    `key` is asked for only by what goes into the outbox.
    """
    given = None if isinstance(producer, OutboxProducer) else producer
    if _direct.get() or not outbox:
        yield given
        return
    if not apps.models_ready:
        _check_without_django(given)
        yield given
        return
    alias = using or write_database()
    inside = in_transaction(connections[alias])
    if not inside:
        _warn_of_other_transactions(alias)
        policy = _outside(given)
        if policy == "direct":
            yield given
            return
        if policy == "error":
            raise TransactionRequired(_no_transaction(alias))
    with (
        no_coroutine(
            "delay()", "adelay() or aapply_async() of the task, or asend_task() of the app"
        ),
        nullcontext() if inside else atomic(using=alias),
    ):
        yield OutboxProducer(app, alias, key())


def _outside(given: Producer | None) -> str:
    """Return what OUTBOX["CELERY_OUTSIDE"] says, where it has a say."""
    if given is not None or in_worker():
        return "direct"
    return outbox_settings().CELERY_OUTSIDE


def _no_transaction(alias: str) -> str:
    block = "" if alias == DEFAULT_DB_ALIAS else f"using={alias!r}"
    async_code = f" In async code: {recipe('delay()')}." if in_event_loop() else ""
    return (
        f"A task is sent outside a transaction on the database {alias!r}, which "
        "OUTBOX['CELERY_OUTSIDE'] makes an error. Wrap it and your data in "
        f"transaction.atomic({block}), or send it with outbox=False.{async_code}"
    )


def _check_without_django(given: Producer | None) -> None:
    """Raise if a task must not go to the broker directly in a process without Django's apps.

    As long as nobody has called django.setup() there is no outbox to write to: a script, or the
    `celery` command, sends as Celery does.
    """
    setup = "Django is not set up: call django.setup() first, or send it with outbox=False."
    if not has_settings():
        return
    if any(map(in_transaction, connections.all(initialized_only=True))):
        raise ConfigurationError(f"A task is sent in a transaction, and {setup}")
    policy = _outside(given)
    if policy == "error":
        raise TransactionRequired(
            "A task is sent outside a transaction, which OUTBOX['CELERY_OUTSIDE'] makes an error; "
            f"and {setup}"
        )
    if policy == "own":
        raise ConfigurationError(
            f"A task shall go into the outbox, as OUTBOX['CELERY_OUTSIDE'] is 'own', and {setup}"
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
            guard().sends(app, chosen)
            stack.enter_context(straight())
        yield chosen


def with_context(headers: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a task's headers with those of the current context that they lack."""
    found = dict(headers_of(here(current_context())))
    return found | dict(headers or {}) or None
