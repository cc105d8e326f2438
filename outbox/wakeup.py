"""Wake the relay once the transaction has committed."""

import time
from collections.abc import Callable
from functools import cache

from django.db import connections, transaction

from outbox import sql
from outbox.conf import outbox_settings

CHANNEL = "django_outbox"

# A relay that was woken polls again within this time, so a second notification is not needed.
QUIET_SECONDS = 0.005

_last_sent: dict[str, float] = {}


def wake_on_commit(using: str) -> None:
    """Arrange for one NOTIFY after the running transaction, however often this is called."""
    connection = connections[using]
    if (
        connection.vendor != "postgresql"
        or not connection.in_atomic_block  # manual transactions have no hooks; polling serves
        or not outbox_settings().NOTIFY
    ):
        return
    hook = _hook(using)
    # A savepoint that rolls back takes its hooks along, so only the list itself knows.
    if not any(entry[1] is hook for entry in connection.run_on_commit):
        transaction.on_commit(hook, using=using, robust=True)


@cache
def _hook(using: str) -> Callable[[], None]:
    def notify() -> None:
        now = time.monotonic()
        if now - _last_sent.get(using, 0.0) < QUIET_SECONDS:
            return
        _last_sent[using] = now
        with connections[using].cursor() as cursor:
            cursor.execute(sql.NOTIFY, [CHANNEL])

    return notify
