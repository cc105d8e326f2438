"""Frames that py-amqp cannot parse, made readable: no sender can stop a consumer.

A timestamp millions of years ahead, a table nested a thousand deep, a routing key that is not
UTF-8: py-amqp raises while it reads, and the same message would come again for ever. What cannot
be parsed is handed on in hexadecimal instead, and ends as a dead letter.
"""

from collections.abc import Callable, Mapping
from typing import Any

from amqp import spec
from amqp.basic_message import Message
from amqp.method_framing import frame_handler
from amqp.serialization import decode_properties_basic

UNREADABLE = "x-unreadable-properties"
"""The header that holds the raw properties of a message, as hexadecimal digits."""

MAX_DEPTH = 100

_HEADER_FRAME = 2
_FIXED = 12  # class, weight and body size come before the properties of a header frame
_SMALL = 2048  # bytes of properties that cannot nest deep enough to matter

Frame = tuple[int, int, bytes]


def tolerant_frame_handler(
    connection: Any, callback: Callable[..., Any]
) -> Callable[[Frame], bool]:
    """Return py-amqp's reader of frames; those that it refuses are replaced by readable ones."""

    def dispatch(channel: int, method: tuple[int, int], arguments: bytes, content: Any) -> Any:
        try:
            return callback(channel, method, arguments, content)
        except UnicodeDecodeError:
            # Raised while the arguments are parsed, so nothing has happened yet.
            if method != spec.Basic.Deliver:
                raise
            return callback(channel, method, _readable_deliver(arguments), content)

    read = frame_handler(connection, dispatch)

    def on_frame(frame: Frame) -> bool:
        kind, channel, payload = frame
        if kind != _HEADER_FRAME:
            return bool(read(frame))
        if len(payload) > _SMALL and not _parses(payload):
            return bool(read((kind, channel, _readable_header(payload))))
        try:
            return bool(read(frame))
        except Exception:
            if _parses(payload):
                raise  # not about the header
            return bool(read((kind, channel, _readable_header(payload))))

    return on_frame


def _parses(payload: bytes) -> bool:
    try:
        properties, _ = decode_properties_basic(payload, _FIXED)
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
    message: Any = Message(application_headers={UNREADABLE: payload[_FIXED:].hex()})
    return payload[:_FIXED] + bytes(message._serialize_properties())


def _readable_deliver(arguments: bytes) -> bytes:
    """Return the arguments of basic.deliver with a routing key that is text."""
    consumer_tag = 4  # after the method's two numbers
    exchange = consumer_tag + 1 + arguments[consumer_tag] + 8 + 1  # delivery tag, redelivered
    routing_key = exchange + 1 + arguments[exchange]
    text = arguments[routing_key + 1 :].decode(errors="backslashreplace").encode()[:255]
    return arguments[:routing_key] + bytes([len(text)]) + text
