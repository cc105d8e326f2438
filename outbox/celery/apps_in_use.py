"""The Celery apps of this process whose tasks go into the outbox, for checks and the admin."""

from typing import Any
from weakref import WeakSet

apps: WeakSet[Any] = WeakSet()


def task_names() -> set[str]:
    """Return the names of these apps' tasks, without those of Celery itself."""
    return {name for app in apps for name in app.tasks if not name.startswith("celery.")}


def broker_url(app: Any) -> str:
    """Return the URL that an app sends its tasks to; several are joined by ';'."""
    own = app.conf.broker_write_url or app.conf.broker_url or "amqp://"
    return own if isinstance(own, str) else ";".join(own)
