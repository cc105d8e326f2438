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
    """A received message in its raw form; the topic is the routing key."""

    headers: Mapping[str, object]
    body: bytes
    content_type: str | None = None
    topic: str = ""

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
    """What became of a delivery: settled unless some handler failed or had to wait.

    `handled`, `duplicates` and `dead` count handler calls; `failures` says why, by handler.
    """

    handled: int = 0
    duplicates: int = 0
    dead: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        return not self.failures

    @property
    def reason(self) -> str:
        return "; ".join(f"{name}: {why}" for name, why in self.failures.items())


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
