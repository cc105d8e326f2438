"""Tell the broker that this consumer is alive while its handlers run."""

import logging
import threading
from typing import Any

logger = logging.getLogger("inbox")


class Heartbeat:
    """Sends AMQP heartbeats from a thread of its own; py-amqp serialises what is written.

    `connection` is py-amqp's. Reading stays with the thread that consumes.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._stopped = threading.Event()
        self._interval = float(connection.heartbeat or 0) / 2
        self._thread = threading.Thread(target=self._run, name="inbox-heartbeat", daemon=True)

    def start(self) -> None:
        if self._interval:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._connection.send_heartbeat()
            except Exception:
                # The consuming thread meets the same error and reconnects.
                logger.debug("Heartbeat failed", exc_info=True)
                return
