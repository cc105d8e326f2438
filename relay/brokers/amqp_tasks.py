"""Celery tasks on an AMQP broker: what must be there before they are published."""

from collections.abc import Sequence
from typing import Any

import msgspec
from amqp.exceptions import ChannelError
from kombu import Connection

from outbox.celery import wire
from outbox.celery.entities import entity
from outbox.celery.wire import TaskMessage
from outbox.envelope import Envelope
from outbox.exceptions import UndecodableMessage
from relay.brokers.base import Outcome, Status

Prepared = tuple[dict[str, TaskMessage], dict[int, Outcome]]


class Routes:
    """Queues and exchanges of tasks on one connection: declared, or looked for, once.

    As Celery's producer would. Works on channels of its own, since a refusal closes the channel.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._there: set[bytes] = set()

    def prepare(self, page: Sequence[Envelope]) -> Prepared:
        """Return the tasks of a page by message id, and the outcomes of those that cannot be sent.

        Raises what py-amqp raises when the connection is lost.
        """
        tasks: dict[str, TaskMessage] = {}
        refused: dict[int, Outcome] = {}
        missing: dict[bytes, str] = {}
        for index, envelope in enumerate(page):
            if not wire.is_task(envelope):
                continue
            try:
                task = wire.decode(envelope.data)
            except UndecodableMessage as exc:
                refused[index] = Outcome(Status.REFUSED, str(exc))
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
        wanted = msgspec.msgpack.encode((task.declare, task.exchange))
        if wanted in self._there:
            return ""
        if wanted not in missing:
            if reason := self._declare(task):
                missing[wanted] = reason
            else:
                self._there.add(wanted)
        return missing.get(wanted, "")

    def _declare(self, task: TaskMessage) -> str:
        channel: Any = self._connection.channel()
        try:
            for declared in task.declare:
                entity(declared)(channel).declare()
            if task.exchange:
                # Publishing to an exchange that is missing would close the channel over it.
                channel.exchange_declare(task.exchange, "direct", passive=True)
        except ChannelError as exc:
            named = ", ".join(repr(each.name) for each in task.declare) or repr(task.exchange)
            return f"the broker refuses {named}, which the task needs: {exc}"
        channel.close()
        return ""
