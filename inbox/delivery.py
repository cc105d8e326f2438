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
    """A received message in its raw form: headers, body, topic (routing key) and attempt."""

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
        return json.dumps(self.headers, default=_readable, sort_keys=True, skipkeys=True)

    def digest(self) -> str:
        """Return a fingerprint of headers and body, equal for each delivery of one message."""
        hashed = hashlib.sha256(self.headers_as_json().encode())
        hashed.update(b"\0")
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


def _readable(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="backslashreplace")
    if isinstance(value, datetime):
        return value.isoformat()
    return repr(value)
