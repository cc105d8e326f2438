"""A clock that signals step: for processes that a test starts, not for the test itself.

What python code sees of the wall clock, `time.time()`, `time.time_ns()`, of which message ids are
made, and `timezone.now()`, jumps forwards with SIGUSR1 and back with SIGUSR2. The monotonic clock
does not jump on a real machine either.
"""

import os
import signal
import time
from datetime import datetime, timedelta
from types import FrameType

from django.utils import timezone

STEP_SECONDS = 6 * 3600
FORWARDS, BACK = signal.SIGUSR1, signal.SIGUSR2
SAID = "clock stepped by"


def install() -> None:
    """Replace the clocks of this process, and step them with signals."""
    offset = 0.0
    real_time, real_ns, real_now = time.time, time.time_ns, timezone.now

    def shifted_time() -> float:
        return real_time() + offset

    def shifted_ns() -> int:
        return real_ns() + int(offset) * 10**9

    def shifted_now() -> datetime:
        return real_now() + timedelta(seconds=offset)

    def step(number: int, frame: FrameType | None) -> None:
        nonlocal offset
        offset += STEP_SECONDS if number == FORWARDS else -STEP_SECONDS
        # Not print(): the signal may interrupt one.
        os.write(2, f"{SAID} {offset:+.0f} s\n".encode())

    time.time, time.time_ns, timezone.now = shifted_time, shifted_ns, shifted_now
    for number in (FORWARDS, BACK):
        signal.signal(number, step)
