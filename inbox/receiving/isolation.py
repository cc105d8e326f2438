"""Let a message that a process may have died of have the next process for itself.

The groups of `manage.py consume` are threads of one process, and share its end: what others are at
when a handler ends it would seem to have ended it as well. So batches and turns go on side by side,
and a turn with a suspect begins when the others are over; what comes then waits for its end.

Nobody is held up for long: a suspect whose neighbours do not come to an end is put off, and from
one that takes its time the others do not keep away. Two suspects never meet.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 5.0
"""Seconds for which a suspect waits for the others to end; they begin nothing in that time."""
DISTANCE = 10.0
"""Seconds for which others keep away from a suspect."""


class Isolation:
    """What is handled in a process at a time; each thread enters once, and again within that."""

    def __init__(self, patience: float = PATIENCE, distance: float = DISTANCE) -> None:
        self._patience = patience
        self._distance = distance
        self._changed = threading.Condition()
        self._sharing = 0
        self._waiting = 0  # suspects
        self._alone = False
        self._here = threading.local()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Handle side by side with others, but not with a suspect."""
        if self._is_here:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._waiting, self._distance)
            self._sharing += 1
        self._here.entered = True
        try:
            yield
        finally:
            self._here.entered = False
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Handle a suspect. Yields False if others do not end: then it must not be handled."""
        if self._is_here:
            yield True
            return
        with self._changed:
            self._waiting += 1
            try:
                free = self._changed.wait_for(
                    lambda: not self._alone and not self._sharing, self._patience
                )
                self._alone |= free
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        self._here.entered = free
        try:
            yield free
        finally:
            self._here.entered = False
            if free:
                with self._changed:
                    self._alone = False
                    self._changed.notify_all()

    @property
    def _is_here(self) -> bool:
        return getattr(self._here, "entered", False)


isolation = Isolation()
"""That of this process."""


def _forget() -> None:
    """Forget the threads of the parent, which are not in a child."""
    isolation.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
