"""Waiting for what others do by themselves, without sleeping for longer than that takes."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 30, every: float = 0.01) -> None:
    """Wait until something is the case."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(every)
