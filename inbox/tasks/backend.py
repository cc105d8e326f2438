"""Enqueue tasks as messages of the outbox; tell what became of them."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from django.db import connections, transaction
from django.utils import timezone

from inbox.tasks import payload, state
from inbox.tasks.conf import event_type
from inbox.tasks.framework import (
    AnyResult,
    AnyTask,
    BaseTaskBackend,
    InvalidTask,
    task_enqueued,
)
from outbox.emitting import emit, in_transaction, write_database
from outbox.registry import registry


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
        found = payload.write(task, args, kwargs, timezone.now())
        run_after = found.run_after
        if run_after is not None and timezone.is_naive(run_after):
            run_after = timezone.make_aware(run_after)
        own = not in_transaction(connections[using])
        with transaction.atomic(using=using) if own else nullcontext():
            envelope = emit(
                event_type(task.queue_name),
                found.as_json(),
                subject=found.task,
                deliver_at=run_after,
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
