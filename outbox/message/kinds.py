"""What kinds of messages the log holds, and in what each differs from the others.

A kind is data: the log, the relay, replays and the admin ask it, and know no format of the wire.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from outbox.message import callbacks, celery_task


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of message. `content_type` tells it; None is what all others are.

    `type` and `source` are the message type that is reserved for it, and the source under which
    the inbox keeps receipts of it, if they are not the message's own. Its key counts only beside a
    subject if `key_needs_subject`. A replay without types leaves it out unless `replayed`.
    `readable` makes of the data what people are shown; it raises UndecodableMessage. One that goes
    `apart` is only the business of relays whose broker carries it, and nothing else is theirs.
    Others go where those go that they are `carried_as`, by their plural, if that is given.
    """

    name: str
    plural: str
    content_type: str | None = None
    type: str | None = None
    source: str | None = None
    key_needs_subject: bool = False
    replayed: bool = True
    readable: Callable[[bytes], Any] | None = None
    apart: bool = False
    carried_as: str = ""

    @property
    def carried(self) -> str:
        """The kinds, in the plural, for which a relay's MESSAGES and its broker are to be good."""
        return self.carried_as or self.plural

    def key(self, key: str | None, subject: str | None) -> str | None:
        """Return the key that orders a message with these columns; None if none does.

        The key of a task is its id unless it was given one; then the subject has the id. An id
        holds nobody up: it is there for people, who look for it.
        """
        return None if self.key_needs_subject and subject is None else key

    def receipt_id(self, key: str | None, subject: str | None) -> str | None:
        """Return the message id under which the inbox keeps its receipts, if it has a `source`."""
        return key if subject is None else subject


EVENT = Kind("event", "events")

TASK = Kind(
    "task",
    "tasks",
    content_type=celery_task.CONTENT_TYPE,
    type=celery_task.TASK_TYPE,
    source=celery_task.TASK_SOURCE,
    key_needs_subject=True,
    replayed=False,  # most tasks would simply run a second time
    readable=lambda data: celery_task.readable(celery_task.decode(data)),
)

CALLBACK = Kind(
    "callback",
    "callbacks",
    content_type=callbacks.CONTENT_TYPE,
    type=callbacks.CALLBACK_TYPE,
    replayed=False,  # whoever was called back has long gone on
    readable=callbacks.readable,
    apart=True,
)

STATEMENT = Kind(
    "statement",
    "statements",
    content_type="application/vnd.outbox.statement+json",
    type="outbox.statement",
    replayed=False,  # it says what was so then
    carried_as="events",
)

KINDS = (EVENT, TASK, CALLBACK, STATEMENT)

_BY_CONTENT_TYPE = {kind.content_type: kind for kind in KINDS}


def kind_of(content_type: str) -> Kind:
    """Return the kind of messages with this content type."""
    return _BY_CONTENT_TYPE.get(content_type, EVENT)
