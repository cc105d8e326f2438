"""Celery tasks that commit with the data: their messages go into the outbox, the relay sends them.

Importing this package does not import Celery; its names do, when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outbox.celery.app import OutboxCelery
    from outbox.celery.results import TaskNotSent
    from outbox.celery.task import OutboxTask

__all__ = ["OutboxCelery", "OutboxTask", "TaskNotSent"]

_HOMES = {
    "OutboxCelery": "outbox.celery.app",
    "OutboxTask": "outbox.celery.task",
    "TaskNotSent": "outbox.celery.results",
}


def __getattr__(name: str) -> Any:
    # The relay reads task messages, with outbox.message.celery_task, and has no use for Celery.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
