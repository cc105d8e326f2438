"""A message as it came in."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from outbox.exceptions import UndecodableMessage
from outbox.message import cloudevents, structured
from outbox.message.envelope import Envelope

COPIED = 4 * 1024
"""Characters of headers that each event of a batch keeps."""
LARGE = 256 * 1024
"""Bytes of a body from which on its reading can end a process: an object for each few of them."""
HEAD_BYTES = 64 * 1024
"""What is kept of a body that is too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A received message in its raw form; the topic is the routing key.

    `redelivered` if the broker had given it to a consumer before, and not got an answer. `size`
    and `sha256` are those of the whole body, where it was too large and only its head is here.
    """

    headers: Mapping[str, object]
    body: bytes
    content_type: str | None = None
    topic: str = ""
    redelivered: bool = False
    size: int | None = None
    sha256: str | None = None
    flaw: str = ""
    """Why it is no batch, if that was looked at."""

    def fits(self, limit: int) -> bool:
        """Tell whether the whole body is here, and not larger than `limit` bytes."""
        return self.size is None and len(self.body) <= limit

    def head(self) -> "Delivery":
        """Return what is kept of a message that is too large."""
        if self.size is not None:
            return self
        digest = hashlib.sha256(self.body).hexdigest()
        return replace(self, body=self.body[:HEAD_BYTES], size=len(self.body), sha256=digest)

    def parts(self) -> list["Delivery"]:
        """Return each event of a batch as a message of its own; any other message as it is."""
        if self.size is not None or self.flaw or not structured.is_batch(self.content_type):
            return [self]
        try:
            events = structured.split(self.body)
        except UndecodableMessage as exc:
            return [replace(self, flaw=str(exc))]  # decode() says so
        # They are nobody's attributes. Of ten thousand copies little is left if they are long.
        headers = self.headers if len(self.headers_as_json()) <= COPIED else {}
        return [
            replace(self, headers=headers, body=event, content_type=structured.EVENT)
            for event in events
        ]

    def decode(self) -> Envelope:
        """Return the envelope; raise UndecodableMessage if it is not a CloudEvent."""
        if self.flaw:
            raise UndecodableMessage(self.flaw)
        if self.content_type is not None and structured.is_structured(self.content_type):
            return structured.decode(self.content_type, self.body, topic=self.topic)
        return cloudevents.from_message(
            self.headers, self.content_type, self.body, topic=self.topic
        )

    @classmethod
    def of(cls, envelope: Envelope) -> "Delivery":
        """Return an envelope in its raw form, as a broker would deliver it."""
        return cls(
            headers=cloudevents.to_headers(envelope),
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

    def kept_headers(self) -> str:
        """Return what is kept of the headers, as JSON: all of them, attributes as text.

        A header of a CloudEvent may come as bytes, or as a number; JSON would not say so.
        """
        found = {
            name: cloudevents.as_text(name, value) if cloudevents.is_attribute(name) else value
            for name, value in self.headers.items()
        }
        return json.dumps(_plain(found), sort_keys=True)

    def kept_content_type(self, envelope: Envelope) -> str | None:
        """Return the content type to keep, by which the message is read as it was."""
        found = envelope.content_type
        if structured.is_structured(self.content_type) or structured.is_structured(found):
            found = self.content_type or ""
        return found if len(found) <= cloudevents.MAX_ATTRIBUTE else self.content_type

    def headers_as_json(self) -> str:
        """Return the headers as ASCII JSON, whatever a sender put there."""
        return json.dumps(_plain(self.headers), sort_keys=True)

    def digest(self) -> str:
        """Return a fingerprint of the message, equal for each delivery of it."""
        about = [self.topic, self.content_type, self.headers_as_json()]
        whole = [] if self.size is None else [self.size, self.sha256]
        hashed = hashlib.sha256(json.dumps(about + whole).encode())
        hashed.update(self.body)
        return hashed.hexdigest()


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
