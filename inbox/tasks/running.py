"""Run a task: the handler of the messages of its queue."""

import os
import socket
from dataclasses import dataclass
from typing import Any

from django.db import router, transaction

from inbox.calls import current_database
from inbox.models import Receipt
from inbox.tasks import failures, payload, state
from inbox.tasks.framework import (
    TaskContext,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_backends,
    task_finished,
    task_started,
)
from inbox.tasks.payload import Payload, find_task
from inbox.verdicts import Reject, Retry
from outbox.envelope import Envelope
from outbox.exceptions import UndecodableMessage


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
        except (Retry, Reject, KeyboardInterrupt):
            raise
        except BaseException as exc:
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
        value = normalize_json(task.call(*context, *result.args, **result.kwargs))
        rows.filter(pk=receipt.pk).update(result=state.succeed(result, value))
        # No partial: Django could not tell the error of a receiver.
        transaction.on_commit(
            lambda: task_finished.send(backend, task_result=result), using=using, robust=True
        )

    def on_dead(self, message_id: str) -> None:
        """Tell that a task has failed for good, once that is committed."""
        transaction.on_commit(
            lambda: self._tell_failed(message_id), using=router.db_for_write(Receipt), robust=True
        )

    def _tell_failed(self, message_id: str) -> None:
        backend = task_backends[self.alias]
        try:
            result = backend.get_result(message_id)
        except TaskResultDoesNotExist:
            return  # it names no task
        if result.status == TaskResultStatus.FAILED:
            task_finished.send(type(backend), task_result=result)


def worker_id() -> str:
    """Return what names this process among the workers, in at most 64 characters."""
    return f"{socket.gethostname()[:50]}-{os.getpid()}"
