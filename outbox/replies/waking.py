"""Wake who waits for a request: NOTIFY where it works; whoever waits looks from time to time."""

import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from django.db import Error, connections, transaction

from outbox.conf import outbox_settings
from outbox.database import commit_hooks
from outbox.database.prepared import is_own_session

_CHANNEL = "django_outbox_settled_"
_NOTIFY = "SELECT pg_notify(name, '') FROM unnest(%s::text[]) AS name"


def channel_of(request_id: UUID) -> str:
    """Return the channel of a request: each has its own, so that no other wakes who waits."""
    return _CHANNEL + request_id.hex


def wake_on_commit(using: str, request_id: UUID) -> None:
    """Tell those who wait for a request, behind the running transaction.

    One statement for all that a transaction settles.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or not outbox_settings().NOTIFY:
        return
    hooks = (each for each in commit_hooks.waiting(connection) if isinstance(each, _Waking))
    channel = channel_of(request_id)
    if (last := next(hooks, None)) is not None:
        last.channels.append(channel)  # what is undone by a savepoint wakes in vain
    else:
        transaction.on_commit(_Waking(using, channel), using=using, robust=True)


class _Waking:
    """Tells of what a transaction has settled."""

    def __init__(self, using: str, channel: str) -> None:
        self.channels = [channel]
        self._using = using
        self.__qualname__ = type(self).__qualname__

    def __call__(self) -> None:
        with connections[self._using].cursor() as cursor:
            cursor.execute(_NOTIFY, [self.channels])


class Wakeup:
    """Waits until a request is settled, or a time has passed.

    It listens in the session of the caller, who is in no transaction. Behind a pooler, which may
    give each statement another session, it does not, and the time passes.
    """

    def __init__(self, using: str, request_id: UUID) -> None:
        self._connection = connections[using]
        self._channel = channel_of(request_id)
        self._listens = False

    def __enter__(self) -> Self:
        if (
            self._connection.vendor == "postgresql"
            and not self._connection.in_atomic_block  # that of a TestCase, in which none is heard
            and is_own_session(self._connection)
        ):
            self._say("LISTEN")
            self._listens = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._listens:
            with suppress(Error):  # the session is gone, and what it listened to with it
                self._say("UNLISTEN")

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds at most."""
        if not self._listens:
            time.sleep(seconds)
            return
        raw: Any = self._connection.connection
        with self._connection.wrap_database_errors:
            for heard in raw.notifies(timeout=seconds):
                if heard.channel == self._channel:
                    return

    def _say(self, word: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f'{word} "{self._channel}"')
