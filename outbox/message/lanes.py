"""Which slice of the log a message belongs to."""

from zlib import crc32


def lane_of(key: str, lanes: int) -> int:
    """Return the lane, in range(lanes), of `key`; the same in every process and version."""
    return hash_of(key) % lanes


def hash_of(key: str) -> int:
    """Return the number, of 32 bits, from which the lane of `key` is taken.

    CRC-32 is neither salted nor versioned: a key must not change its lane when Python does.
    """
    return crc32(key.encode())
