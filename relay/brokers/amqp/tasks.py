"""Celery tasks on an AMQP broker: what must be there before they are published."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from amqp.exceptions import (
    AccessRefused,
    AMQPError,
    AMQPNotImplementedError,
    ChannelError,
    FrameSyntaxError,
    InvalidCommand,
    NotAllowed,
)
from kombu import Connection, Exchange

from outbox.amqp.exchange import declare_missing
from outbox.celery.declarations import entity
from outbox.error_text import text_of
from outbox.exceptions import UndecodableMessage
from outbox.message import celery_task
from outbox.message.celery_task import TaskMessage
from outbox.message.envelope import Envelope
from relay.brokers.base import Outcome, Status

CLOSING = (AMQPNotImplementedError, FrameSyntaxError, InvalidCommand, NotAllowed)
"""For what a broker closes the connection over a declaration: an unknown type of exchange, say."""

REFUSED_SECONDS = 300.0
"""How long such a declaration is not tried again."""

Prepared = tuple[dict[str, TaskMessage], dict[int, Outcome]]


class Routes:
    """Queues and exchanges of tasks on one connection: declared, or looked for, once.

    As Celery's producer would. Works on channels of its own, since a refusal closes the channel.
    """

    def __init__(self, connection: Connection, refusals: dict[bytes, tuple[str, float]]) -> None:
        """`refusals` outlive the connection: what it was closed for, and until when that counts."""
        self._connection = connection
        self._refusals = refusals
        self._there: set[bytes] = set()

    def prepare(self, page: Sequence[Envelope]) -> Prepared:
        """Return the tasks of a page by message id, and the outcomes of those that cannot be sent.

        Raises what py-amqp raises when the connection is lost.
        """
        tasks: dict[str, TaskMessage] = {}
        refused: dict[int, Outcome] = {}
        missing: dict[bytes, str] = {}
        for index, envelope in enumerate(page):
            if not celery_task.is_task(envelope):
                continue
            try:
                task = celery_task.decode(envelope.data)
            except UndecodableMessage as exc:
                refused[index] = Outcome(Status.REFUSED, text_of(exc))
                continue
            if reason := self._refusal(task, missing):
                refused[index] = Outcome(Status.REFUSED, reason)
            else:
                tasks[envelope.id] = task
        return tasks, refused

    def _refusal(self, task: TaskMessage, missing: dict[bytes, str]) -> str:
        """Return why a task's queue or exchange cannot be used; "" if it can.

        What was refused is not tried again within this page, and is in the next.
        """
        wanted = _route(task)
        if wanted in self._there:
            return ""
        reason, until = self._refusals.get(wanted, ("", 0.0))
        if time.monotonic() < until:
            return reason
        if wanted not in missing:
            if reason := self._declare(task, wanted):
                missing[wanted] = reason
            else:
                self._there.add(wanted)
        return missing.get(wanted, "")

    def forget(self, task: TaskMessage) -> None:
        """Declare a task's queue anew before the next attempt: it has vanished."""
        self._there.discard(_route(task))

    def _declare(self, task: TaskMessage, wanted: bytes) -> str:
        reason = ""
        channel: Any = self._connection.channel()
        try:
            for declared in task.declare:
                _declare_missing(entity(declared)(channel))
            if task.exchange:
                # Publishing to an exchange that is missing would close the channel over it.
                channel.exchange_declare(task.exchange, "direct", passive=True)
        except ChannelError as exc:
            reason = _refused(task, exc)
        except CLOSING as exc:
            # The connection is gone with it, for all: do not let it happen again at once.
            self._refusals[wanted] = (_refused(task, exc), time.monotonic() + REFUSED_SECONDS)
            raise
        except (AMQPError, OSError):
            raise
        except Exception as exc:  # nothing was sent: AMQP has no form for it, or it fits no frame
            reason = f"it cannot be declared over AMQP: {type(exc).__name__}: {exc}"
        channel.close()  # py-amqp has opened it again after a refusal
        return reason


def _declare_missing(wanted: Any) -> None:
    """Declare a queue or exchange of kombu as it does itself; use what is there as it is."""
    if isinstance(wanted, Exchange):
        declare_missing(wanted.declare, lambda: wanted.declare(passive=True))
        return
    if wanted.no_declare:
        return
    if wanted.exchange:
        _declare_missing(wanted.exchange)
    declare_missing(wanted.queue_declare, lambda: wanted.queue_declare(passive=True))
    for each in wanted.bindings:
        _declare_missing(each.exchange(wanted.channel))
    # Without the right to bind nobody can see what is bound. If nothing is, the task comes back.
    if wanted.exchange and wanted.exchange.name:
        with suppress(AccessRefused):
            wanted.queue_bind()
    for each in wanted.bindings:
        with suppress(AccessRefused):
            each.bind(wanted)


def _route(task: TaskMessage) -> bytes:
    return msgspec.msgpack.encode((task.declare, task.exchange))


def _refused(task: TaskMessage, exc: Exception) -> str:
    named = ", ".join(repr(each.name) for each in task.declare) or repr(task.exchange)
    return f"the broker refuses {named}, which the task needs: {exc}"
