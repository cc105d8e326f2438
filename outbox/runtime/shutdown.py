"""Stop a long-running command in an orderly way."""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any, Self

LOOK_EVERY = 1.0
"""Seconds from one look at the parent to the next."""


class Shutdown:
    """A request to stop, from a signal or from code, that interrupts waiting.

    The first SIGTERM or SIGINT asks for an orderly end; the second ends the process at once.
    """

    def __init__(self) -> None:
        # A plain flag: a lock could be held by the code that a signal interrupts.
        self._requested = False
        self._previous: dict[int, Any] = {}
        self._previous_fd: int | None = None
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    @property
    def requested(self) -> bool:
        return self._requested

    def install(self) -> None:
        """Handle SIGTERM and SIGINT until close(); call from the main thread."""
        # Python runs handlers between its own instructions: one that comes right before select()
        # would be noticed after it. The interpreter itself writes to this socket at once.
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._on_signal)

    def request(self) -> None:
        """Ask for an orderly end; wakes whoever is in wait()."""
        self._requested = True
        with contextlib.suppress(OSError):  # full or closed: nobody is left to be woken
            self._writer.send(b"\0")

    def wait(self, seconds: float, *sources: int) -> bool:
        """Wait until `seconds` have passed, a stop is requested or a file descriptor is readable.

        Returns whether one of `sources` is readable.
        """
        if self.requested:
            return False
        watched: list[Any] = [self._reader, *sources]
        readable, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if self._reader in readable and not self.requested:  # a signal of someone else's
            with contextlib.suppress(BlockingIOError):
                self._reader.recv(4096)
        return any(source in readable for source in sources)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the signals back to who handled them before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._previous.clear()
        if self._previous_fd is not None:
            signal.set_wakeup_fd(self._previous_fd)
            self._previous_fd = None
        self._reader.close()
        self._writer.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            sys.stderr.write("Second signal: stopping at once.\n")
            sys.stderr.flush()
            os._exit(128 + number)
        self.request()


def end_with(parent: int, shutdown: Shutdown) -> None:
    """Ask for an orderly end when the parent is no longer the process of that id.

    A supervisor that is killed cannot stop what it has started.
    """

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == parent:
            if pause.wait(LOOK_EVERY) or shutdown.requested:
                return
        shutdown.request()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
