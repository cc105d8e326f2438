"""Requests and replies on the wire: which attributes they have, and where replies are sent to.

A request is an event with the address to which its replies go, in `replyto`. A reply is an event
that is published to that address, with the id of its request in `inreplyto`. An address is a
topic: the queue of the asking group is bound to it, is durable, and outlives every process.
"""

import re
from collections.abc import Mapping

REPLY_TO = "replyto"
IN_REPLY_TO = "inreplyto"
REPLY_GROUP = "replygroup"
"""The attribute of a reply that says which group of its source has answered."""
EXPIRY_TIME = "expirytime"
"""CloudEvents' extension of this name: when the asker stops waiting. Nobody has to heed it."""

FAILED = "outbox.request.failed"
"""The type of what is sent instead of a reply when a handler has failed on a request for good."""
EXPIRED = "outbox.request.expired"
"""The type of what an asker sends to itself, to be delivered at the deadline."""
PROGRESS = "outbox.request.progress"
"""The type of what says how far whoever answers has come."""
CANCELLED = "outbox.request.cancelled"
"""The type of what an asker sends behind a request, the same way, when it wants no answer."""

SETTLED = "outbox.request.settled"
"""The type of what an asker sends to itself when a request has ended, if it goes on from there."""
REQUEST_TYPE = "requesttype"
"""The attribute of that which says of what type the request is."""

_PREFIX = "outbox.replies."
_ADDRESS = re.compile(r"outbox\.replies\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_NO_WORD = re.compile(r"[^A-Za-z0-9_-]+")


def address_of(group: str) -> str:
    """Return the topic of replies for a group; what no topic can have in its name becomes '-'."""
    words = (_NO_WORD.sub("-", word) for word in group.split("."))
    return _PREFIX + ".".join(word or "-" for word in words)


def is_address(topic: object) -> bool:
    """Tell whether a topic is the address of a group."""
    return isinstance(topic, str) and len(topic) <= 255 and bool(_ADDRESS.fullmatch(topic))


def reply_address(attributes: Mapping[str, object]) -> str | None:
    """Return where the replies to a message go; None if it wants none, or names no address."""
    found = attributes.get(REPLY_TO)
    return found if isinstance(found, str) and is_address(found) else None


def settled_type(event_type: str, attributes: Mapping[str, object]) -> str:
    """Return of what type the request is whose end a message tells of; "" if it tells of none."""
    found = attributes.get(REQUEST_TYPE) if event_type == SETTLED else ""
    return found if isinstance(found, str) else ""
