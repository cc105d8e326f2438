"""Wait for what other processes do."""

import time
from collections.abc import Callable, Iterator

_POLL = 0.05


def ticks(seconds: float) -> Iterator[float]:
    """Yield the time now and then, for so many seconds."""
    deadline = time.monotonic() + seconds
    while (now := time.monotonic()) < deadline:
        yield now
        # A look that is costly is not to take the machine from those who are waited for.
        time.sleep(max(_POLL, 4 * (time.monotonic() - now)))


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition, for so many seconds at most; return whether it came true."""
    return any(condition() for _ in ticks(seconds))
