"""What of an answer is about what was asked: anybody may have sent it. Pure policy.

What is not, says nothing. So no answer makes anything to be stated that the other side would
refuse, or to be written that cannot be stored.
"""

import re
from uuid import UUID

from msgspec.structs import replace

from outbox.message.event_types import is_type_name
from outbox.statements.buckets import time_of
from outbox.statements.wire import Answer, Listing

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_STATE = re.compile(r"[a-z_]{1,20}")


def fitting(answer: Answer, since: int, until: int, width: int, type_: str = "") -> Answer:
    """Return what an answer says of a range, in parts of a width, of one type or of all."""

    def is_asked(start: int, kind: str) -> bool:
        inside = since <= start < until and not start % width
        return inside and is_type_name(kind) and type_ in ("", kind)

    differing = [(start, kind) for start, kind in answer.differing if is_asked(start, kind)]
    named = set(differing)
    listings = [
        _own(each)
        for each in answer.listings
        if (each.since, each.type) in named and each.until == each.since + width
    ]
    twice = {
        message_id: kind
        for message_id, kind in answer.twice.items()
        if _is_in(message_id, since, until) and is_type_name(kind) and type_ in ("", kind)
    }
    compared = [each for each in answer.compared if is_asked(each.start, each.type)]
    return replace(answer, differing=differing, listings=listings, twice=twice, compared=compared)


def _own(listing: Listing) -> Listing:
    ids = {
        message_id: state
        for message_id, state in listing.ids.items()
        if _STATE.fullmatch(state) and _is_in(message_id, listing.since, listing.until)
    }
    return listing if len(ids) == len(listing.ids) else replace(listing, ids=ids)


def _is_in(message_id: str, since: int, until: int) -> bool:
    return bool(_ID.fullmatch(message_id)) and since <= time_of(UUID(message_id)) < until
