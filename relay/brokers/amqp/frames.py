"""The bytes of published messages: CloudEvents in binary mode, persistent, as AMQP 0-9-1 frames.

py-amqp packs the properties of a message field by field, and polls and writes the socket for each
one. Packed like this, and written many at once, a message costs a sixth of that time.
(AMQP 0-9-1 specification, sections 4.2.3 to 4.2.6; the tests compare with py-amqp's bytes.)
"""

import struct
from functools import lru_cache
from operator import attrgetter

from amqp.basic_message import Message
from amqp.serialization import dumps

from outbox.message import cloudevents
from outbox.message.celery_task import MAX_SHORT, TaskMessage
from outbox.message.envelope import Envelope

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"
_OVERHEAD = 8
"""Bytes of a frame around its payload."""
_BASIC, _PUBLISH = 60, 40
_FLAGS = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 7
"""content-type, headers, delivery-mode and message-id, in this order."""
_PERSISTENT = b"\x02"


class Unsendable(ValueError):
    """No frame that the broker would take can hold it."""


_frame_start = struct.Struct(">BHI").pack
_publish_start = struct.Struct(">HHH").pack
_header_start = struct.Struct(">HHQH").pack
_long = struct.Struct(">I").pack
_byte = struct.Struct(">B").pack


class Frames:
    """Packs messages for one channel and exchange; `frame_max` as agreed with the broker.

    Events, that is: a task names an exchange of its own.
    """

    def __init__(self, channel: int, frame_max: int, *, exchange: str, mandatory: bool) -> None:
        self._channel = channel
        self._body_max = frame_max - _OVERHEAD
        self._exchange = _short(exchange)
        self._mandatory = bytes([mandatory])
        self._publish = lru_cache(maxsize=1024)(self._publish_to)

    def pack(self, envelope: Envelope) -> bytes:
        """Return the frames of a message, whose topic is the routing key.

        Raises Unsendable, or whatever values raise that AMQP has no form for.
        """
        data = envelope.data
        message_id = envelope.id.encode()
        table = _table(envelope, message_id)
        properties = b"".join(
            (
                _header_start(_BASIC, 0, len(data), _FLAGS),
                _known_short(envelope.content_type),
                _long(len(table)),
                table,
                _PERSISTENT,
                _byte(len(message_id)),
                message_id,
            )
        )
        return self._framed(self._publish(envelope.topic), properties, data)

    def pack_task(self, task: TaskMessage) -> bytes:
        """Return the frames of a Celery task, with its own exchange, routing key and properties.

        Raises what pack() does.
        """
        content = task.content
        values = task.properties | {"application_headers": task.headers}
        mandatory = self._mandatory if task.mandatory is None else bytes([task.mandatory])
        flags, formats, given = 0, "", []
        for place, (name, kind) in enumerate(Message.PROPERTIES):
            if (value := values.get(name)) is not None:
                flags |= 1 << (15 - place)
                formats += kind
                given.append(value)
        properties = _header_start(_BASIC, 0, len(content), flags) + dumps(formats, tuple(given))
        start = _publish_start(_BASIC, _PUBLISH, 0)
        method = b"".join((start, _short(task.exchange), _short(task.routing_key), mandatory))
        return self._framed(self._method(method), properties, content)

    def _framed(self, method: bytes, properties: bytes, data: bytes) -> bytes:
        if len(properties) > self._body_max:
            # The broker would end the connection over it, with all that is in flight on it.
            raise Unsendable(
                f"its headers and properties take {len(properties):,} bytes, and AMQP wants them "
                f"in one frame, of which the broker allows {self._body_max:,}. Carry them in the "
                "data, or raise frame_max of the broker"
            )
        channel = self._channel
        parts = [method, _frame_start(_HEADER, channel, len(properties)), properties]
        for start in range(0, len(data), self._body_max):
            body = data[start : start + self._body_max]
            parts += (_END, _frame_start(_BODY, channel, len(body)), body)
        parts.append(_END)
        return b"".join(parts)

    def _publish_to(self, topic: str) -> bytes:
        start = _publish_start(_BASIC, _PUBLISH, 0)
        method = b"".join((start, self._exchange, _short(topic), self._mandatory))
        return self._method(method)

    def _method(self, payload: bytes) -> bytes:
        return b"".join((_frame_start(_METHOD, self._channel, len(payload)), payload, _END))


def _table(envelope: Envelope, message_id: bytes) -> bytes:
    """Return the entries of the headers' table, in the order of cloudevents.to_headers()."""
    parts = [
        _ID,
        _long(len(message_id)),
        message_id,
        _of_a_type(envelope.source, envelope.type, envelope.version),
    ]
    if envelope.time is not None:
        time = cloudevents.format_time(envelope.time).encode()
        parts += (_TIME, _long(len(time)), time)
    for start, text in zip(_STARTS, _optional(envelope), strict=True):
        if text is not None:
            value = text.encode()
            parts += (start, _long(len(value)), value)
    for name, extension in envelope.attributes.items():
        value = cloudevents.canonical(extension).encode()
        parts += (_string(cloudevents.PREFIX + name), _long(len(value)), value)
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _of_a_type(source: str, event_type: str, version: int) -> bytes:
    """Return the entries that all messages of a type and source share."""
    given = {"source": source, "type": event_type, "dataversion": str(version)}
    return b"".join(_entry(cloudevents.PREFIX + name, value) for name, value in given.items())


def _entry(name: str, value: str) -> bytes:
    encoded = value.encode()
    return _string(name) + _long(len(encoded)) + encoded


def _short(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > MAX_SHORT:
        raise Unsendable(
            f"{encoded[:20].decode(errors='ignore')}… has {len(encoded)} bytes; names, routing "
            f"keys and most properties have {MAX_SHORT} at most in AMQP"
        )
    return bytes([len(encoded)]) + encoded


_known_short = lru_cache(maxsize=256)(_short)


@lru_cache(maxsize=1024)
def _string(name: str) -> bytes:
    """Return the start of an entry of the headers' table: its name, and that it is a string."""
    return _short(name) + b"S"


_ID = _entry(cloudevents.PREFIX + "specversion", cloudevents.SPEC_VERSION) + _string(
    cloudevents.PREFIX + "id"
)
_TIME = _string(cloudevents.PREFIX + "time")
_STARTS = [_string(cloudevents.PREFIX + attribute) for attribute in cloudevents.OPTIONAL.values()]
_optional = attrgetter(*cloudevents.OPTIONAL)
