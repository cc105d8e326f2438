"""What one side has of a bucket: count and digest of message ids. Pure policy.

The digest of a bucket is sha256 over its ids in their order, 16 bytes each. That of an hour is
sha256 over its buckets in their order, 8 bytes of the time and 32 of the digest each; a day's is
made of its hours likewise. Buckets without messages are left out.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from uuid import UUID

import msgspec

from outbox.statements.buckets import DAY, HOUR, floor, time_of

EMPTY = hashlib.sha256().hexdigest()


class Total(msgspec.Struct, frozen=True, array_like=True, order=True, forbid_unknown_fields=True):
    """Of one type in one bucket: when the bucket begins, how many messages, and their digest."""

    start: int
    type: str
    count: int
    digest: str


def total_up(ids: Iterable[tuple[UUID, str]], width: int) -> list[Total]:
    """Return the totals of messages, given in the order of their ids."""
    counts: dict[tuple[int, str], int] = {}
    digests = {}
    for message_id, event_type in ids:
        name = floor(time_of(message_id), width), event_type
        if name not in counts:
            counts[name], digests[name] = 0, hashlib.sha256()
        counts[name] += 1
        digests[name].update(message_id.bytes)
    return [
        Total(start, kind, counts[start, kind], digests[start, kind].hexdigest())
        for start, kind in sorted(counts)
    ]


def fold(totals: Iterable[Total], width: int) -> list[Total]:
    """Return the totals of hours or days from those of their buckets or hours, in order."""
    counts: dict[tuple[int, str], int] = {}
    digests = {}
    for each in sorted(totals):
        name = floor(each.start, width), each.type
        if name not in counts:
            counts[name], digests[name] = 0, hashlib.sha256()
        counts[name] += each.count
        digests[name].update(each.start.to_bytes(8, "big") + bytes.fromhex(each.digest))
    return [
        Total(start, kind, counts[start, kind], digests[start, kind].hexdigest())
        for start, kind in sorted(counts)
    ]


def raised(totals: Iterable[Total], width: int) -> list[Total]:
    """Return the totals of a width from those of buckets: digests of digests from an hour on."""
    found = list(totals)
    for each in (HOUR, DAY):
        if width >= each:
            found = fold(found, each)
    return found


def differing(ours: Iterable[Total], theirs: Iterable[Total]) -> Iterator[tuple[int, str]]:
    """Yield start and type of each bucket of which the two sides do not have the same."""
    mine, others = _by_name(ours), _by_name(theirs)
    for name in sorted(mine.keys() | others.keys()):
        if mine.get(name) != others.get(name):
            yield name


def _by_name(totals: Iterable[Total]) -> Mapping[tuple[int, str], tuple[int, str]]:
    return {(each.start, each.type): (each.count, each.digest) for each in totals if each.count}
