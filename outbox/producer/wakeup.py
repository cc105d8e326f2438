"""Wake the relay once the transaction has committed."""

import time
from collections.abc import Callable
from functools import cache

from django.db import connections, transaction

from outbox.conf import outbox_settings
from outbox.database import commit_hooks
from outbox.producer import sql

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
    if not any(each is hook for each in commit_hooks.waiting(connection)):
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
