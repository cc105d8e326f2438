"""The port through which pictures of the flow learn what relay and inbox know.

The relay knows whether a message was published, the inbox who handles it and what came of that.
Each registers a reporter; the outbox knows neither of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outbox.models import Message


class Mood(StrEnum):
    """Whether a stage is over, and well."""

    DONE = "done"
    OPEN = "open"
    """Not yet, or tried again by itself."""
    FAILED = "failed"
    """It waits for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one relay, handler or group has made of a message.

    `by` names it; `group` is that of a handler, "" if it is not known, and None for a relay.
    `state` is a word of theirs, in English. `error` says why, where it is not over and well; it
    has no secrets. Who may view the model `of` ("app.model") may know of it, and what can be done
    about it is done to its `row`, a primary key. `peer` names the service that has told of it, ""
    for this one, whose rows are not here.
    """

    message_id: str
    source: str
    type: str
    by: str
    group: str | None = None
    state: str
    mood: Mood
    at: datetime | None = None
    attempts: int = 0
    error: str = ""
    of: str = ""
    row: int | None = None
    peer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked about a conversation.

    `messages` is what the log has of it, in the database of the alias `using`. `causes` are ids of
    others that they name as their cause. At most `limit` rows of each kind are to be read.
    """

    correlation_id: str
    messages: Sequence["Message"]
    causes: Sequence[str]
    using: str
    limit: int


@dataclass(frozen=True, slots=True)
class Report:
    """What is known, and whether there is more than was read."""

    stages: Sequence[Stage] = ()
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A handler in the code: it wants the event types that `pattern` selects."""

    handler: str
    group: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """How many messages of a type a handler has received; `failed` of them wait for a person.

    `rate` is how many in a second of late, and `p95` how long the slowest of twenty took from
    being emitted to being handled, where that is known. `of` is the model as in a Stage.
    """

    handler: str
    type: str
    count: int
    failed: int
    rate: float | None = None
    p95: timedelta | None = None
    of: str = ""


class Reporter:
    """What an app knows of the flow; override what it has to say. Read only, and by index."""

    def report(self, question: Question) -> Report:
        """Return what became of the messages of a conversation, of other services too."""
        return Report()

    def knows(self, correlation_id: str) -> bool:
        """Tell whether there is a message of another service with this correlation id."""
        return False

    def correlation_of(self, message_id: str) -> str | None:
        """Return the correlation id of a message of another service, if it is known here.

        One without any is a conversation by itself, with its own id.
        """
        return None

    def declared(self) -> Iterable[Declared]:
        """Yield the handlers in the code."""
        return ()

    def observed(self, limit: int) -> Iterable[Observed]:
        """Yield what handlers have received, of the newest `limit` messages or fewer."""
        return ()

    def types_of(self, message_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the types of messages of other services, by id, as far as they are known."""
        return {}


_reporters: dict[str, Reporter] = {}


def register_reporter(name: str, reporter: Reporter) -> None:
    """Ask a reporter about conversations; `name` is that of the app's package."""
    _reporters[name] = reporter


def reporters() -> Sequence[Reporter]:
    """Return what is registered, in the order of registration."""
    return tuple(_reporters.values())
