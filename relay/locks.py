"""Keys of the advisory locks that relays take: signed 32-bit numbers, one space per database."""

import zlib


def lock_key(relay: str) -> int:
    """Return the key of a relay; the second half of a lock is the lane."""
    return _key(f"relay {relay}")


def _key(name: str) -> int:
    return zlib.crc32(f"django-outbox-inbox {name}".encode()) - 2**31


REBASE_KEY = _key("rebase")
"""Shared by everybody who reads a page, exclusive for a rebase; its second half is 0."""
