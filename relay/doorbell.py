"""Wait for something to publish: NOTIFY after commit where it works, polling in any case."""

import logging
import time
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.database.failures import is_outage
from outbox.error_text import text_of
from outbox.producer.wakeup import CHANNEL
from outbox.runtime.shutdown import Shutdown

logger = logging.getLogger("relay")

RECONNECT_SECONDS = 5.0


class Doorbell:
    """Sleeps between looks at the log; listens on a connection of its own, in autocommit."""

    def __init__(self, using: str, shutdown: Shutdown, *, listen: bool) -> None:
        self._using = using
        self._shutdown = shutdown
        self._listen = listen and connections[using].vendor == "postgresql"
        self._connection: BaseDatabaseWrapper | None = None
        self._next_try = 0.0
        self._complained = False
        self._text = ""

    def connect(self) -> None:
        """Start to listen; what commits from now on rings. Without a connection, polling serves."""
        if not self._listen or self._connection is not None or time.monotonic() < self._next_try:
            return
        # A listening connection must be idle and in autocommit, so it cannot be the relay's.
        connection = connections[self._using].copy()
        try:
            connection.ensure_connection()
            connection.set_autocommit(True)
            with connection.cursor() as cursor:
                cursor.execute(f'LISTEN "{CHANNEL}"')
        except Error as exc:  # also what is no outage: some proxies refuse LISTEN
            connection.close()
            self._lost(exc)
        else:
            self._connection = connection
            self._complained = False

    def wait(self, seconds: float) -> bool:
        """Wait until the bell rings (True), `seconds` have passed or a stop is requested."""
        self.connect()
        if self._connection is None:
            self._shutdown.wait(seconds)
            return False
        raw = self._connection.connection
        try:
            with self._connection.wrap_database_errors:
                return self._shutdown.wait(seconds, raw.fileno()) and self._take(raw)
        except Error as exc:
            self._drop(exc)
            return False

    def heard(self) -> str:
        """Return the text with which it has rung last, without waiting; "" if it has not since."""
        if self._connection is not None:
            try:
                with self._connection.wrap_database_errors:
                    self._take(self._connection.connection)
            except Error as exc:
                self._drop(exc)
        text, self._text = self._text, ""
        return text

    def _take(self, raw: Any) -> bool:
        """Take what has come; return whether something has."""
        came = list(raw.notifies(timeout=0))
        if came:
            self._text = came[-1].payload
        return bool(came)

    def _drop(self, exc: Error) -> None:
        self.close()
        if not is_outage(exc):
            raise exc
        self._lost(exc)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _lost(self, exc: Exception) -> None:
        self._next_try = time.monotonic() + RECONNECT_SECONDS
        if not self._complained:
            self._complained = True
            logger.warning("Not woken by NOTIFY, polling instead: %s", text_of(exc).strip())
