"""A backend for Django's tasks: the outbox carries them, the inbox runs them.

Nothing is imported before OutboxBackend is asked for: the task framework may be absent, and Celery
imports the module `tasks` of every app.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inbox.tasks.backend import OutboxBackend

__all__ = ["OutboxBackend"]


def __getattr__(name: str) -> Any:
    if name == "OutboxBackend":
        from inbox.tasks.backend import OutboxBackend  # noqa: PLC0415 - see above

        return OutboxBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
