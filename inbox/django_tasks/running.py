"""Run a task: the handler of the messages of its queue."""

import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import DatabaseError, connections, router, transaction

from inbox.calling import isolation
from inbox.calling.calls import current_database
from inbox.calling.hooks import Contained
from inbox.calling.sessions import Displaced
from inbox.django_tasks import failures, payload, state
from inbox.django_tasks.framework import (
    TaskContext,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
)
from inbox.django_tasks.payload import Payload, find_task
from inbox.models import Receipt
from inbox.verdicts import Reject, Retry
from outbox.error_text import text_of
from outbox.exceptions import UndecodableMessage
from outbox.interrupts import is_interrupt
from outbox.message.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs the tasks of a backend: the function of its handlers."""

    alias: str

    def __call__(self, event: Any, message: Envelope) -> None:
        try:
            found = payload.read(event)
        except UndecodableMessage as exc:
            raise Reject(str(exc)) from exc
        try:
            self._run(found, message)
        except (Retry, Reject, Displaced):
            raise
        except BaseException as exc:
            if is_interrupt(exc):
                raise
            raise failures.failed(exc) from exc

    def _run(self, found: Payload, message: Envelope) -> None:
        using = current_database()
        task = find_task(found, self.alias, message.source)
        rows = Receipt.objects.using(using)
        receipt = rows.get(message_id=message.id, handler=message.type, source=message.source)
        backend = type(task_backends[self.alias])
        result = state.running(task, message.id, found, self.alias, receipt, worker_id())
        task_started.send(backend, task_result=result)
        context = [TaskContext(task_result=result)] if task.takes_context else []
        with isolation.own_session(connections[using]):
            value = normalize_json(task.call(*context, *result.args, **result.kwargs))
        kept = state.succeed(result, value)
        try:
            written = rows.filter(pk=receipt.pk).update(result=kept)
        except DatabaseError as exc:
            raise Displaced(f"its result cannot be kept: {text_of(exc)}") from exc
        if not written:
            raise Displaced("its receipt is not to be seen any more, so its result cannot be kept")
        tell = partial(task_finished.send, backend, task_result=result)
        transaction.on_commit(tell, using=using, robust=True)

    def on_dead(self, message_id: str, exc: BaseException | None) -> None:
        """Tell that a task has failed for good, once that is committed."""
        using = router.db_for_write(Receipt)
        hook = Contained(partial(self._tell_failed, message_id, exc), using)
        transaction.on_commit(hook, using=using, robust=True)

    def _tell_failed(self, message_id: str, exc: BaseException | None) -> None:
        backend = task_backends[self.alias]
        try:
            result = backend.get_result(message_id)
        except TaskResultDoesNotExist:
            return  # it names no task
        if result.status != TaskResultStatus.FAILED:
            return
        try:
            raise failures.raised(exc, result.errors[0] if result.errors else None)
        except BaseException:
            # Receivers log the exception that is being handled, as the framework's own does.
            task_finished.send(type(backend), task_result=result)


def worker_id() -> str:
    """Return what names this process among the workers, in at most 64 characters."""
    return f"{socket.gethostname()[:50]}-{os.getpid()}"
