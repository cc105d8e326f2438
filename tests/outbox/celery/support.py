"""A Celery app whose tasks go into the outbox, and what stands there."""

from typing import Any

import msgspec

from outbox.celery import OutboxCelery
from outbox.message import celery_task
from outbox.message.celery_task import TaskMessage
from outbox.models import Message

# Nobody listens there: whatever does not go through the outbox fails.
NOWHERE = "amqp://127.0.0.1:1//"


def new_app(**conf: Any) -> OutboxCelery:
    """Return an app that is nobody's default."""
    app = OutboxCelery("unit", broker=NOWHERE, set_as_current=False)
    app.conf.update(task_publish_retry=False, broker_transport_options={"max_retries": 0}, **conf)
    return app


def written() -> list[TaskMessage]:
    """Return the tasks in the outbox, in order."""
    return [celery_task.decode(bytes(row.data)) for row in Message.objects.order_by("position")]


def arguments(task: TaskMessage) -> Any:
    """Return positional and keyword arguments of a task that is JSON."""
    return tuple(msgspec.json.decode(task.content)[:2])
