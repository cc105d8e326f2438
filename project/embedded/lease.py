"""Count the processes that use a server.

With locks, not with a list of process ids: the kernel releases a lock however its process ends,
so a killed process never keeps the server alive, and no id is ever mistaken for its successor.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Lease:
    """The use of a shared resource by this process.

    Two lock files lie beside the resource: one makes starting and stopping exclusive, on the other
    every user holds a shared lock.
    """

    def __init__(self, resource: Path) -> None:
        self._guard = resource.with_name(f"{resource.name}.lock")
        self._users = resource.with_name(f"{resource.name}.users")
        self._held: int | None = None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait for the turn of this process to start or stop the resource."""
        descriptor = _open(self._guard)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def take(self) -> None:
        """Become a user of the resource."""
        if self._held is None:
            self._held = _open(self._users)
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def release(self) -> bool:
        """Stop being a user; return whether this process was the last one."""
        if self._held is None:
            return False
        # A forked child shares this very lock: closing our end leaves it to the child, and only a
        # new descriptor can tell.
        os.close(self._held)
        self._held = None
        descriptor = _open(self._users)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
