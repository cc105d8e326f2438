"""Stop a long-running command in an orderly way."""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from types import FrameType


class Shutdown:
    """A request to stop, from a signal or from code, that interrupts waiting.

    The first SIGTERM or SIGINT asks for an orderly end; the second ends the process at once.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def install(self) -> None:
        """Handle SIGTERM and SIGINT; call from the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def request(self) -> None:
        """Ask for an orderly end; wakes whoever is in wait()."""
        self._requested.set()
        with contextlib.suppress(BlockingIOError):
            self._writer.send(b"\0")

    def wait(self, seconds: float, *sources: int) -> bool:
        """Wait until `seconds` have passed, a stop is requested or a file descriptor is readable.

        Returns whether one of `sources` is readable.
        """
        if self.requested:
            return False
        readable, _, _ = select.select([self._reader, *sources], [], [], max(0.0, seconds))
        return any(source in readable for source in sources)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            sys.stderr.write("Second signal: stopping at once.\n")
            sys.stderr.flush()
            os._exit(128 + number)
        self.request()
