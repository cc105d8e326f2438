"""A message as it came in, and what became of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from outbox import wire
from outbox.envelope import Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A received message in its raw form; the topic is the routing key.

    `redelivered` if the broker had given it to a consumer before, and not got an answer.
    """

    headers: Mapping[str, object]
    body: bytes
    content_type: str | None = None
    topic: str = ""
    redelivered: bool = False

    def decode(self) -> Envelope:
        """Return the envelope; raise UndecodableMessage if it is not a CloudEvent."""
        return wire.from_message(self.headers, self.content_type, self.body, topic=self.topic)

    @classmethod
    def of(cls, envelope: Envelope) -> "Delivery":
        """Return an envelope in its raw form, as a broker would deliver it."""
        return cls(
            headers=wire.to_headers(envelope),
            body=envelope.data,
            content_type=envelope.content_type,
            topic=envelope.topic,
        )

    @classmethod
    def from_stored(
        cls,
        headers: str | None,
        body: bytes | memoryview | None,
        content_type: str | None,
        topic: str | None,
    ) -> "Delivery":
        """Return a message as it was kept in the database."""
        try:
            found = json.loads(headers or "{}")
        except ValueError:
            found = {}
        return cls(
            headers=found if isinstance(found, dict) else {},
            body=bytes(body or b""),
            content_type=content_type or None,
            topic=topic or "",
        )

    def kept_headers(self, envelope: Envelope | None) -> str:
        """Return what is kept of the headers: of an envelope, what it can be made from again.

        A header of a CloudEvent may come as bytes, or as a number; JSON would not say so.
        """
        if envelope is None:
            return self.headers_as_json()
        others = {
            name: value for name, value in self.headers.items() if not wire.is_attribute(name)
        }
        return json.dumps(_plain({**others, **wire.to_headers(envelope)}), sort_keys=True)

    def headers_as_json(self) -> str:
        """Return the headers as ASCII JSON, whatever a sender put there."""
        return json.dumps(_plain(self.headers), sort_keys=True)

    def digest(self) -> str:
        """Return a fingerprint of the message, equal for each delivery of it."""
        about = json.dumps([self.topic, self.content_type, self.headers_as_json()])
        hashed = hashlib.sha256(about.encode())
        hashed.update(self.body)
        return hashed.hexdigest()


@dataclass(slots=True)
class Result:
    """What became of a delivery, counted in handler calls; the inbox has it in its care.

    `dead` counts what needs a person, `letters` what of that no handler could use. `failures` says
    why, by handler, of those that failed, whatever follows from it.
    """

    handled: int = 0
    duplicates: int = 0
    retrying: int = 0
    waiting: int = 0
    skipped: int = 0
    dead: int = 0
    letters: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def _plain(value: object) -> object:
    """Return a header's value in the types of JSON; bytes as Python writes them, to the byte."""
    if isinstance(value, Mapping):
        return {
            name if isinstance(name, str) else repr(name): _plain(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float):
        return value
    return repr(value)
