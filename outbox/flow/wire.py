"""What services tell each other of a conversation: JSON, versioned, bounded. Pure.

Texts come masked from the service that has them; the data of messages is not among them. What
comes from elsewhere is checked for all that the pages take for granted.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from outbox.exceptions import OutboxError
from outbox.extensions.flow import Mood, Stage
from outbox.flow.conversation import Sent
from outbox.flow.halves import Half

MAX_BYTES = 4 * 1024 * 1024
"""The longest answer."""
MESSAGES = 5_000
"""Messages of an answer, and states of them by handler and relay, at most."""
ERROR = 300
"""Characters of an error that are told."""

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Text = Annotated[str, Meta(max_length=255)]
Moment = Annotated[datetime, Meta(tz=True)]


class Unreadable(OutboxError, ValueError):
    """An answer is not what a service may say; the text says why."""


class _Message(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    id: Name
    source: Name
    type: Name
    key: Text | None = None
    subject: Text | None = None
    time: Moment | None = None
    causation_id: Text | None = None
    name: Text = ""
    correlation_id: Text | None = None


class _Stage(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    message_id: Name
    source: Text
    type: Name
    by: Name
    group: Text | None = None
    state: Annotated[str, Meta(min_length=1, max_length=40)]
    mood: Mood
    at: Moment | None = None
    attempts: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    error: Annotated[str, Meta(max_length=ERROR)] = ""
    of: Text = ""


class Answer(msgspec.Struct, kw_only=True, frozen=True):
    """What a service says: `service` is its CloudEvents source, `cut` whether there is more.

    `correlation_id` names the conversation, or is the key that was asked for.
    """

    version: Literal[1] = 1
    service: Name
    correlation_id: Name
    messages: Annotated[list[_Message], Meta(max_length=MESSAGES)]
    stages: Annotated[list[_Stage], Meta(max_length=2 * MESSAGES)]
    cut: bool = False

    def half(self, peer: str) -> Half:
        """Return what the service of that name knows."""
        names = _Message.__struct_fields__
        sent = [Sent(**{n: getattr(each, n) for n in names}, peer=peer) for each in self.messages]
        names = _Stage.__struct_fields__
        stages = [Stage(**{n: getattr(each, n) for n in names}, peer=peer) for each in self.stages]
        return Half(
            correlation_id=self.correlation_id,
            sent=sent,
            stages=stages,
            cut_at=len(sent) if self.cut else None,
        )


def encode(half: Half, service: str) -> bytes:
    """Return a half as it is told; of one that is too long, its beginning."""
    most = 2 * MESSAGES
    while True:
        answer = _answer(half, service, most)
        found = msgspec.json.encode(answer)
        if len(found) <= MAX_BYTES:
            return found
        most //= 2


def decode(data: bytes) -> Answer:
    """Return what a service says; raise Unreadable if it is not as it must be."""
    try:
        answer = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise Unreadable(str(exc)[:200] or "it is too deep") from exc
    moments = [each.time for each in answer.messages] + [each.at for each in answer.stages]
    if not all(1900 < each.year < 9000 for each in moments if each is not None):
        raise Unreadable("a time is in no year that a calendar has")
    return answer


_decoder = msgspec.json.Decoder(Answer)


def _answer(half: Half, service: str, most: int) -> Answer:
    sent = half.sent[: min(most, MESSAGES)]
    stages = _worst_first(half.stages)[:most]
    return Answer(
        service=service,
        correlation_id=half.correlation_id,
        messages=[
            _Message(**{name: getattr(each, name) for name in _Message.__struct_fields__})
            for each in sent
        ],
        stages=[_told(each) for each in stages],
        cut=half.cut_at is not None or len(sent) < len(half.sent) or len(stages) < len(half.stages),
    )


def _worst_first(stages: Sequence[Stage]) -> list[Stage]:
    order = {Mood.FAILED: 0, Mood.OPEN: 1, Mood.DONE: 2}
    return sorted(stages, key=lambda stage: order[stage.mood])


def _told(stage: Stage) -> _Stage:
    values = {name: getattr(stage, name) for name in _Stage.__struct_fields__}
    return _Stage(**values | {"error": stage.error[:ERROR]})
