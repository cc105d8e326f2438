"""Message ids: UUID version 7 (RFC 9562), strictly increasing within a process.

Layout as in CPython 3.14's uuid.uuid7(): 48 bits of Unix milliseconds, a 42-bit counter that is
seeded at random each millisecond (RFC 9562, section 6.2, method 1), 32 random bits. When the
clock stands still or steps back, the counter goes on from the last timestamp, so ids neither
repeat nor drift.
"""

import os
import threading
import time
from datetime import UTC, datetime
from uuid import UUID

_COUNTER_BITS = 42
_COUNTER_MAX = (1 << _COUNTER_BITS) - 1

_lock = threading.Lock()
_last_ms = 0
_counter = 0


def uuid7_text() -> str:
    """Return a new UUIDv7 as text, larger than every one that this process returned before."""
    digits = f"{_next():032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def time_of(message_id: str) -> datetime | None:
    """Return when a UUIDv7 was made, to the millisecond; None if it is none, or says no time."""
    try:
        found = UUID(message_id)
        return datetime.fromtimestamp((found.int >> 80) / 1000, UTC) if found.version == 7 else None
    except (ValueError, OverflowError, OSError):
        return None


def _next() -> int:
    global _last_ms, _counter
    now_ms = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10), "big")
    with _lock:
        if now_ms > _last_ms:
            _last_ms = now_ms
            # The top bit starts at zero, which leaves room to count within the millisecond.
            _counter = (random_bits >> 32) & (_COUNTER_MAX >> 1)
        elif _counter < _COUNTER_MAX:
            _counter += 1
        else:
            _last_ms += 1
            _counter = (random_bits >> 32) & (_COUNTER_MAX >> 1)
        ms, counter = _last_ms, _counter
    value = (ms & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76
    value |= (counter >> 30) << 64
    value |= 0b10 << 62
    value |= (counter & 0x3FFF_FFFF) << 32
    value |= random_bits & 0xFFFF_FFFF
    return value


def _reseed() -> None:
    """Let a forked child count from a seed of its own, under a lock that nobody holds."""
    global _lock, _last_ms
    _lock = threading.Lock()
    _last_ms = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)
