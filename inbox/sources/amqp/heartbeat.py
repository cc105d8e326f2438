"""Tell the broker that this consumer is alive while its handlers run."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("inbox")


class Heartbeat:
    """Sends AMQP heartbeats from a thread of its own, in place of the thread that consumes.

    `connection` is py-amqp's, which is not made for two threads, TLS least of all: the two take
    turns. While the consuming thread reads, it sends its heartbeats itself.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._interval = float(connection.heartbeat or 0) / 2
        self._standing_in = False
        self._turn = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inbox-heartbeat", daemon=True)

    def start(self) -> None:
        if self._interval:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def standing_in(self) -> Iterator[None]:
        """Send heartbeats during the block, which must leave the connection alone."""
        with self._turn:
            self._standing_in = True
        try:
            yield
        finally:
            with self._turn:
                self._standing_in = False

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            with self._turn:
                if not self._standing_in:
                    continue
                try:
                    self._connection.send_heartbeat()
                except Exception:
                    # The consuming thread meets the same error and reconnects.
                    logger.debug("Heartbeat failed", exc_info=True)
                    return
