"""Statements and their answers as messages: the body, and its bounds. Pure policy."""

import msgspec

from outbox.exceptions import UndecodableMessage
from outbox.message.cloudevents import MAX_ATTRIBUTE
from outbox.message.kinds import STATEMENT
from outbox.message.patterns import is_pattern
from outbox.message.requests import is_address
from outbox.statements.buckets import MAX_TIME, is_bucket, is_width
from outbox.statements.measures import Compared, Measured, Written, flaw
from outbox.statements.topics import Topic
from outbox.statements.totals import Total

MOST_TOTALS = 500
"""Totals in one message."""
MOST_LISTED = 20_000
"""Ids in one message; a second with more of one type is compared in smaller parts."""
LISTED_AT_ONCE = 1000
"""Ids of a bucket up to which the ids are told, in place of the totals of its seconds."""
MOST_PATTERNS = 1000
"""Patterns in one message, of topics or of event types."""

assert STATEMENT.type is not None
assert STATEMENT.content_type is not None
TYPE: str = STATEMENT.type
CONTENT_TYPE: str = STATEMENT.content_type


class Statement(
    msgspec.Struct,
    frozen=True,
    tag="statement",
    tag_field="role",
    kw_only=True,
    omit_defaults=True,
):
    """All that the sender has emitted for a group from `since` until before `until`.

    Of the types that `patterns` select, one total for each type and `width`; `bucket` is the width
    of buckets, of some of which `measured` has business totals. `address` is where the answer goes.
    Without any time between, it only asks which topics the group is bound to.
    """

    group: str
    address: str
    since: int
    until: int
    width: int
    bucket: int
    patterns: list[str]
    totals: list[Total]
    measured: list[Measured] = []


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """All that the group has of a type, from `since` until before `until`: states by id."""

    type: str
    since: int
    until: int
    ids: dict[str, str]


class Answer(
    msgspec.Struct,
    frozen=True,
    tag="answer",
    tag_field="role",
    kw_only=True,
    omit_defaults=True,
):
    """What a group has to say on the statement with the id `to`, of what is before `until`.

    `differing` names what the sides do not have the same of: start and type. What is in `listings`
    is told message by message, the rest is to be stated in smaller parts. `twice` are messages that
    a handler has handled twice. `compared` are business totals that the group has others of.
    `topics` and `handles` say what the group gets. Of what is before `forgotten` nothing is said:
    receipts are not kept for so long.
    """

    group: str
    to: str
    until: int
    differing: list[tuple[int, str]]
    listings: list[Listing]
    twice: dict[str, str]
    topics: list[Topic]
    handles: list[str]
    forgotten: int = 0
    compared: list[Compared] = []


_decoder = msgspec.json.Decoder(Statement | Answer)


def encode(body: Statement | Answer) -> bytes:
    """Return the data of a message."""
    return msgspec.json.encode(body)


def decode(data: bytes) -> Statement | Answer:
    """Return what a message says; raise UndecodableMessage for what is not as it has to be."""
    try:
        found: Statement | Answer = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise UndecodableMessage(f"it is no statement: {exc}") from exc
    problem = _flaw(found) if isinstance(found, Statement) else _flaw_of_answer(found)
    if problem:
        raise UndecodableMessage(f"it is no statement: {problem}")
    return found


def _flaw(found: Statement) -> str:
    if not 0 <= found.since <= found.until < MAX_TIME:
        return "its times"
    if not is_bucket(found.bucket) or not is_width(found.width, found.bucket):
        return "its widths"
    if found.since % found.width or found.until % found.width:
        return "its range is not of whole buckets"
    if not is_address(found.address):
        return "its address"
    if len(found.patterns) > MOST_PATTERNS or not all(map(is_pattern, found.patterns)):
        return "its patterns"
    if any(each.start % found.width for each in found.totals):
        return "its totals"
    return _flaw_of_figures([each.figures for each in found.measured])


def _flaw_of_answer(found: Answer) -> str:
    if len(found.to) > MAX_ATTRIBUTE or not 0 <= found.until < MAX_TIME:
        return "what it answers"
    if not all(is_pattern(each.topic) for each in found.topics):
        return "its topics"
    if not all(map(is_pattern, found.handles)):
        return "what it handles"
    if max(len(found.topics), len(found.handles)) > MOST_PATTERNS:
        return "how much it says"
    if any(not 0 <= each.begins < MAX_TIME for each in found.topics):
        return "its topics"
    if any(each.ends is not None and not 0 <= each.ends < MAX_TIME for each in found.topics):
        return "its topics"
    return _flaw_of_figures(
        [each.stated for each in found.compared] + [each.booked for each in found.compared]
    )


def _flaw_of_figures(found: list[Written]) -> str:
    wrong = len(found) > 2 * MOST_TOTALS or any(map(flaw, found))
    return "its business totals" if wrong else ""
