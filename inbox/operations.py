"""What people do about receipts and dead letters, on pages and through the API."""

import hashlib
from collections.abc import Callable, Collection, Mapping

from django.db.models import Model
from django.utils.translation import gettext_noop

from inbox import operator
from inbox.models import DeadLetter, Receipt
from inbox.operator import Done
from inbox.states import Event, State, letters_before, states_before
from outbox.operations import Operation, Perform

Act = Callable[..., Done]


EDITABLE = 1024 * 1024
"""Bytes of a body that people can edit."""
EDITED = gettext_noop("Edited and retried; the original is kept.")


def as_text(body: bytes) -> str | None:
    """Return a body as people can edit it; None if it is too large, or no text."""
    if len(body) > EDITABLE:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def seen_as(row: Receipt | DeadLetter, body: bytes) -> str:
    """Return a name of a message as it is now: another one if somebody has edited it."""
    return hashlib.sha256(f"{row.headers}\0{row.content_type}\0".encode() + body).hexdigest()


def _performed(act: Act) -> Perform:
    def perform(numbers: Collection[int], *, by: str, using: str) -> Collection[int]:
        return act(numbers, using=using).changed

    return perform


def _operations(
    model: type[Model], acts: Mapping[str, tuple[Act, tuple[State, ...], str, str]]
) -> dict[str, Operation]:
    return {
        verb: Operation(
            model=model,
            verb=verb,
            perform=_performed(act),
            written=written,
            states=states,
            target=target,
            permission="discard" if verb == "restore" else "",
            # Dead letters are received again, here and now.
            singly=model is DeadLetter and verb == "retry",
        )
        for verb, (act, states, target, written) in acts.items()
    }


OF_RECEIPTS = _operations(
    Receipt,
    {
        "retry": (operator.retry, states_before(Event.RETRY), "", gettext_noop("Retried.")),
        "discard": (
            operator.discard,
            states_before(Event.DISCARD),
            State.DISCARDED,
            gettext_noop("Discarded."),
        ),
        "restore": (
            operator.restore,
            states_before(Event.RESTORE),
            State.DEAD,
            gettext_noop("Restored."),
        ),
    },
)
OF_LETTERS = _operations(
    DeadLetter,
    {
        "retry": (
            operator.retry_letters,
            letters_before(Event.HANDLED),
            State.PROCESSED,
            gettext_noop("Retried."),
        ),
        "discard": (
            operator.discard_letters,
            letters_before(Event.DISCARD),
            State.DISCARDED,
            gettext_noop("Discarded."),
        ),
        "restore": (
            operator.restore_letters,
            letters_before(Event.RESTORE),
            State.DEAD,
            gettext_noop("Restored."),
        ),
    },
)
"""By verb; in which states each can be done is said by the tables of inbox.states."""
