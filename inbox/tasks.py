"""The backend for Django's tasks, by the name that settings know: see inbox.django_tasks.

Nothing is imported before OutboxBackend is asked for: the task framework may be absent, and Celery
imports the module `tasks` of every app.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inbox.django_tasks.backend import OutboxBackend

__all__ = ["OutboxBackend"]


def __getattr__(name: str) -> Any:
    if name == "OutboxBackend":
        from inbox.django_tasks.backend import OutboxBackend  # noqa: PLC0415 - see above

        return OutboxBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
