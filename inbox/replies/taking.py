"""Take the replies to what this service has asked, and the acknowledgements of what it has sent.

A handler of the default group, to whose address both are sent.
"""

from typing import Any

from inbox.conf import inbox_settings
from inbox.handlers.registry import Handler, handlers
from inbox.replies.withdrawals import WITHDRAWALS
from inbox.verdicts import Retry, RetryPolicy
from outbox.acknowledging import taking as acknowledging
from outbox.message.acknowledgements import TYPE as ACKNOWLEDGEMENT
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry as event_types
from outbox.message.requests import EXPIRED, FAILED, IN_REPLY_TO, PROGRESS, SETTLED
from outbox.producer.addresses import register_group
from outbox.producer.writing import write_database
from outbox.replies import settling
from outbox.replies.recording import RequestBusy

NAME = "outbox.replies"


def take(event: Any, message: Envelope) -> None:
    """Settle the request that a message is about, or note what it acknowledges."""
    if message.type == ACKNOWLEDGEMENT:
        acknowledging.take(event, message, using=write_database())
        return
    request_id = message.attributes.get(IN_REPLY_TO)
    if not isinstance(request_id, str):
        return  # somebody has published to our address what is no reply
    if message.type == SETTLED:
        return  # what tells of no request
    using = write_database()
    try:
        if message.type == EXPIRED:
            settling.expire(request_id, message, using=using)
        elif message.type == FAILED:
            settling.fail(request_id, _reason(event), using=using, by=message.source)
        elif message.type == PROGRESS:
            settling.note_progress(request_id, event, message.time, using=using)
        else:
            settling.answer(request_id, message, using=using, by=message.source)
    except RequestBusy:
        raise Retry(reason="another transaction has locked the request") from None


def install() -> None:
    """Take replies for the default group, if there is anything that can be told to us."""
    register_group(lambda: inbox_settings().group)
    if any(each.is_request or each.acknowledge for each in event_types):
        handlers.add(REPLIES)
    if any(each.is_request for each in event_types):
        handlers.add(WITHDRAWALS)


REPLIES = Handler(
    name=NAME,
    pattern=NAME,
    function=take,
    addressed=True,
    # What it waits for are locks of others, for most of a day.
    retry=RetryPolicy(attempts=1000, base=0.1, cap=60.0),
)


def _reason(event: Any) -> str:
    """Return in words what a fault says; it comes from another service, and may say anything."""
    if not isinstance(event, dict):
        return ""
    error, reason, attempts, handler = (
        event.get(name) for name in ("error", "reason", "attempts", "handler")
    )
    return f"{handler} has failed after {attempts} attempts: {error or reason}"
