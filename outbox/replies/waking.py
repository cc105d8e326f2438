"""Wake who waits for a request: NOTIFY where it works; whoever waits looks from time to time."""

import time
from types import TracebackType
from typing import Any, Self

from django.db import connections, transaction

CHANNEL = "django_outbox_settled"
_NOTIFY = "SELECT pg_notify(%s, %s)"


def wake_on_commit(using: str, request_id: str) -> None:
    """Tell those who wait for a request, behind the running transaction."""
    if connections[using].vendor != "postgresql":
        return

    def notify() -> None:
        with connections[using].cursor() as cursor:
            cursor.execute(_NOTIFY, [CHANNEL, request_id])

    transaction.on_commit(notify, using=using, robust=True)


class Wakeup:
    """Waits until a request is settled, or a time has passed.

    It listens in the session of the caller, who is in no transaction. Behind a pooler that gives
    each statement another session nothing is heard, and the time passes.
    """

    def __init__(self, using: str, request_id: str, *, wait: bool) -> None:
        self._connection = connections[using]
        self._request_id = request_id
        self._listen = wait and self._connection.vendor == "postgresql"

    def __enter__(self) -> Self:
        self._say("LISTEN")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection.connection is not None:
            self._say("UNLISTEN")

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds at most."""
        if not self._listen:
            time.sleep(seconds)
            return
        raw: Any = self._connection.connection
        with self._connection.wrap_database_errors:
            for heard in raw.notifies(timeout=seconds):
                if heard.payload == self._request_id:
                    return

    def _say(self, word: str) -> None:
        if self._listen:
            with self._connection.cursor() as cursor:
                cursor.execute(f'{word} "{CHANNEL}"')
