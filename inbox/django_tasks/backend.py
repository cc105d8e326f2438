"""Enqueue tasks as messages of the outbox; tell what became of them."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from django.db import connections, transaction

from inbox.django_tasks import payload, state
from inbox.django_tasks.conf import event_type
from inbox.django_tasks.framework import (
    AnyResult,
    AnyTask,
    BaseTaskBackend,
    InvalidTask,
    task_enqueued,
)
from outbox.database import instants
from outbox.database.event_loop import no_coroutine
from outbox.message.event_types import registry
from outbox.producer.emit import emit
from outbox.producer.writing import in_transaction, write_database


class OutboxBackend(BaseTaskBackend):
    """Tasks commit with the caller's transaction, and have their database effects once.

    TASKS = {"default": {"BACKEND": "inbox.tasks.OutboxBackend"}}
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    # The log has one order, in which tasks were enqueued.
    supports_priority = False

    def enqueue(  # type: ignore[override]  # without the parameters of generics
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> AnyResult:
        """Write a task's message, in the running transaction or, outside of any, in its own.

        Raises InvalidTask, TypeError for arguments that are not JSON, and what emit() raises.
        """
        self.validate_task(task)
        if not registry.knows(event_type(task.queue_name)):
            raise InvalidTask(
                f"Nothing here runs the queue {task.queue_name!r}. Is 'inbox' in INSTALLED_APPS, "
                "and what does 'manage.py check' say of TASKS?"
            )
        using = write_database()
        found = payload.write(task, args, kwargs, instants.now())
        connection = connections[using]
        # With autocommit off as well: on_commit() wants an atomic block.
        own = not (in_transaction(connection) and connection.in_atomic_block)
        with (
            no_coroutine("enqueue()", "aenqueue()"),
            transaction.atomic(using=using) if own else nullcontext(),
        ):
            envelope = emit(
                event_type(task.queue_name),
                found.as_json(),
                subject=found.task,
                deliver_at=found.run_after,
                using=using,
            )
            result = state.ready(task, envelope.id, found, self.alias)
            transaction.on_commit(
                lambda: task_enqueued.send(type(self), task_result=result),
                using=using,
                robust=True,
            )
        return result

    def get_result(self, result_id: str) -> AnyResult:
        """Return a task's result as it is now; raise TaskResultDoesNotExist if it is not known."""
        return state.find(result_id, self.alias, self.queues)
