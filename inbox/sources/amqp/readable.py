"""How messages are read from frames: whatever a sender has put there, and no more than fits.

A timestamp millions of years ahead, a table nested a thousand deep, a routing key that is not
UTF-8: py-amqp raises while it reads, and the same message would come again for ever. What cannot
be parsed is handed on in hexadecimal instead, and ends as a dead letter. Of a body over the limit
the head is kept; the rest is counted and hashed as it comes, and never in memory as a whole.
"""

import hashlib
import io
import struct
from collections.abc import Callable, Mapping
from typing import Any

from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import UnexpectedFrame
from amqp.serialization import decode_properties_basic

from inbox.delivery import HEAD_BYTES

UNREADABLE = "x-unreadable-properties"
"""The header that holds the raw properties of a message, as hexadecimal digits."""

MAX_DEPTH = 100
HEADERS_WEIGH = 32
"""What a byte of headers can take when it is parsed: of empty tables in a list, say."""

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_FIXED = 12  # class, weight and body size come before the properties of a header frame
_SMALL = 2048  # bytes of properties that cannot nest deep enough to matter
_WITH_CONTENT = frozenset({spec.Basic.Deliver, spec.Basic.Return, spec.Basic.GetOk})

_method = struct.Struct(">HH").unpack_from
_counts = struct.Struct(">LL").unpack_from

Frame = tuple[int, int, bytes]


class Received(Message):
    """A message as it comes in. `digest` is the SHA-256 of a body of which only the head is kept.

    `weight` is about how many bytes of memory it takes.
    """

    def __init__(self, limit: int, method: tuple[int, int], arguments: bytes) -> None:
        super().__init__(frame_method=method, frame_args=arguments)
        self.weight = 0
        self.digest: str | None = None
        self.headed = False  # whether its header frame has come
        self._limit = limit
        self._missing = 0  # bytes of what is kept that are to come
        self._hash: Any = None
        self._kept = io.BytesIO()

    def inbound_header(self, payload: bytes, offset: int = 0) -> int:
        """Take the header frame, in a readable form if it has none."""
        if len(payload) > _SMALL and not _parses(payload):
            payload = _readable_header(payload)
        try:
            end = int(super().inbound_header(payload, offset))  # type: ignore[misc]
        except MemoryError:
            raise
        except Exception:
            payload = _readable_header(payload)
            end = int(super().inbound_header(payload, offset))  # type: ignore[misc]
        self.headed = True
        self._missing = self.body_size
        if self.body_size > self._limit:
            self._missing = min(HEAD_BYTES, self._limit)
            self._hash = hashlib.sha256()
        self.weight = self._missing + HEADERS_WEIGH * len(payload)
        return end

    def forget(self) -> None:
        """Keep nothing of the body."""
        self._missing, self._limit, self._hash, self._kept = 0, 0, None, io.BytesIO()

    def inbound_body(self, part: bytes) -> None:
        """Take a frame of the body."""
        if len(part) == self.body_size <= self._limit:
            self.body, self.ready = part, True
            return
        if not self.body_received and self._missing:
            # All its room at once: growing would leave holes in memory, and be copied.
            self._kept.seek(self._missing - 1)
            self._kept.write(b"\x00")
            self._kept.seek(0)
        self.body_received += len(part)
        if self._hash is not None:
            self._hash.update(part)
        if self._missing:
            self._missing -= self._kept.write(part[: self._missing])
        if self.body_received >= self.body_size:
            # Without a copy: nobody else has it.
            self.body, self._kept = self._kept.getvalue(), io.BytesIO()
            self.digest = self._hash.hexdigest() if self._hash is not None else None
            self.ready = True


class Frames:
    """Reads a connection's messages. Of a body of more than `limit` bytes it keeps the head."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial: dict[int, Received] = {}
        self._discarding = False
        self.answers = 0
        """How often it was told how many messages a queue holds."""
        self.depth = 0
        """How many it were the last time."""
        self.consumers = 0
        """How many consumers it had then."""

    @property
    def pending(self) -> int:
        """About how many bytes of memory those messages will take that are being read."""
        return sum(message.weight for message in self._partial.values())

    def discard(self) -> None:
        """Keep nothing of what comes from now on; for a connection that is about to end."""
        self._limit, self._discarding = 0, True
        for message in self._partial.values():
            message.forget()

    def handler(self, connection: Any, callback: Callable[..., Any]) -> Callable[[Frame], bool]:
        """Return what takes the place of py-amqp's own reader of frames."""
        self._partial.clear()  # of another host that was tried before

        def on_frame(frame: Frame) -> bool:
            kind, channel, payload = frame
            connection.bytes_recv += 1
            if kind == _HEARTBEAT:
                return False
            message = self._partial.get(channel)
            if kind != _expected(message):
                raise UnexpectedFrame(
                    f"Received frame {kind} while expecting type: {_expected(message)}"
                )
            if message is None:
                method = _method(payload)
                if method in _WITH_CONTENT:
                    self._partial[channel] = Received(self._limit, method, payload)
                    return False
                if method == spec.Queue.DeclareOk:
                    self.answers += 1
                    self.depth, self.consumers = _depth(payload)
                callback(channel, method, payload, None)
                return True
            if kind == _HEADER:
                message.inbound_header(payload)
            else:
                message.inbound_body(payload)
            if not message.ready:
                return False
            del self._partial[channel]
            if not self._discarding:
                dispatch(channel, message)
            return True

        def dispatch(channel: int, message: Received) -> None:
            method, arguments = message.frame_method, message.frame_args
            try:
                callback(channel, method, arguments, message)
            except UnicodeDecodeError:
                # Raised while the arguments are parsed, so nothing has happened yet.
                if method != spec.Basic.Deliver:
                    raise
                callback(channel, method, _readable_deliver(arguments or b""), message)

        return on_frame


def _expected(message: Received | None) -> int:
    if message is None:
        return _METHOD
    return _BODY if message.headed else _HEADER


def _depth(arguments: bytes) -> tuple[int, int]:
    """Return the numbers of messages and consumers from the arguments of queue.declare-ok."""
    name = 4  # after the method's two numbers
    messages, consumers = _counts(arguments, name + 1 + arguments[name])
    return int(messages), int(consumers)


def _parses(payload: bytes) -> bool:
    try:
        properties, _ = decode_properties_basic(payload, _FIXED)
    except MemoryError:
        raise
    except Exception:
        return False
    return _depth_is_sane(properties)


def _depth_is_sane(properties: Mapping[str, Any]) -> bool:
    level: list[Any] = [properties]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, Mapping) else value)
            if isinstance(item, Mapping | list)
        ]
        if not level:
            return True
    return False


def _readable_header(payload: bytes) -> bytes:
    properties: dict[str, Any] = {"application_headers": {UNREADABLE: payload[_FIXED:].hex()}}
    # A whole event in JSON needs nothing else.
    if content_type := _content_type(payload):
        properties["content_type"] = content_type
    message: Any = Message(**properties)
    return payload[:_FIXED] + bytes(message._serialize_properties())


def _content_type(payload: bytes) -> str:
    """Return the first of the properties, whatever the others are; nothing if it is not there."""
    flags, text = payload[_FIXED : _FIXED + 2], payload[_FIXED + 2 :]
    if not flags[:1] or not flags[0] & 0x80 or not text:
        return ""
    return text[1 : 1 + text[0]].decode("ascii", errors="ignore")


def _readable_deliver(arguments: bytes) -> bytes:
    """Return the arguments of basic.deliver with a routing key that is text."""
    consumer_tag = 4  # after the method's two numbers
    exchange = consumer_tag + 1 + arguments[consumer_tag] + 8 + 1  # delivery tag, redelivered
    routing_key = exchange + 1 + arguments[exchange]
    spelt = arguments[routing_key + 1 :].decode(errors="backslashreplace").encode()[:255]
    text = spelt.decode(errors="ignore").encode()  # the cut may have gone through a letter
    return arguments[:routing_key] + bytes([len(text)]) + text
