"""Frames that py-amqp cannot parse, sent through a real broker."""

import json
import struct
from typing import Any

import pytest
from amqp.basic_message import Message

from inbox.models import DeadLetter
from inbox.sources.amqp.readable import UNREADABLE
from tests.inbox.support import Handling, Queue, Raw, effects, happened

pytestmark = pytest.mark.django_db(transaction=True)

CONTENT_TYPE, HEADERS, TIMESTAMP = 0x8000, 0x2000, 0x0040


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def table(*items: bytes) -> bytes:
    body = b"".join(items)
    return struct.pack(">I", len(body)) + body


def headers(*items: bytes) -> bytes:
    return struct.pack(">H", HEADERS) + table(*items)


def nested(depth: int, kind: bytes) -> bytes:
    """A table, or list, within a table and so on."""
    value = b"t\x01"
    for _ in range(depth):
        value = b"F" + table(short(b"k") + value) if kind == b"F" else b"A" + table(value)
    return value


def raw(properties: bytes, body: bytes = b"odd") -> Message:
    message = Raw(body)
    message.raw = properties
    return message


HOSTILE: dict[str, bytes] = {
    "a content type that is not UTF-8": struct.pack(">H", CONTENT_TYPE) + short(b"\xff\xfe"),
    "a date past all calendars": headers(short(b"x") + b"T" + struct.pack(">Q", 2**62)),
    "a date past what the system knows": headers(short(b"x") + b"T" + struct.pack(">Q", 2**55)),
    "tables nested too deep": headers(short(b"x") + nested(5000, b"F")),
    "lists nested too deep": headers(short(b"x") + nested(5000, b"A")),
    "tables nested rather deep": headers(short(b"x") + nested(300, b"F")),
    "lists nested deep enough": headers(short(b"x") + nested(700, b"A")),
}


@pytest.mark.parametrize("properties", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("body", [b"odd", b""], ids=["body", "no body"])
def test_a_message_that_cannot_be_parsed_is_a_dead_letter(
    properties: bytes, body: bytes, queue: Queue, handling: Handling
) -> None:
    """Its properties are kept in hexadecimal; the messages around it are handled."""
    handling()
    queue.declare()
    queue.publish(happened(1))
    queue.publish_raw((raw(properties, body), "tests.happened"))
    queue.publish(happened(2))

    consumer = queue.drain()

    assert effects() == [1, 2]
    assert (consumer.progress.received, consumer.progress.dead) == (3, 1)
    assert queue.ready() == 0
    dead = DeadLetter.objects.get()
    assert bytes(dead.body) == body
    if UNREADABLE in dead.headers:
        assert properties.hex() in dead.headers


@pytest.mark.parametrize("inner", [nested(300, b"F"), b"T" + struct.pack(">Q", 2**62)])
def test_a_whole_event_does_not_need_its_headers(
    inner: bytes, queue: Queue, handling: Handling
) -> None:
    """Its content type is read all the same, and says that all is in the body."""
    handling()
    queue.declare()
    kind = short(b"application/cloudevents-batch+json")
    flags = struct.pack(">H", CONTENT_TYPE | HEADERS)
    events = [
        {"specversion": "1.0", "id": f"{n}", "source": "/elsewhere", "type": "tests.happened"}
        | {"data": {"key": "k", "number": n}}
        for n in (1, 2)
    ]
    properties = flags + kind + table(short(b"x") + inner)

    queue.publish_raw((raw(properties, json.dumps(events).encode()), "tests.happened"))
    queue.drain()

    assert effects() == [1, 2]


@pytest.mark.parametrize("length", [1, 85, 86, 255])
def test_a_content_type_of_any_bytes(length: int, queue: Queue, handling: Handling) -> None:
    """It is not kept longer than it was."""
    handling()
    queue.declare()
    properties = struct.pack(">H", CONTENT_TYPE) + short(b"\xff" * length)

    queue.publish_raw((raw(properties), "tests.happened"))
    queue.publish(happened(2))

    assert queue.drain().progress.dead == 1
    assert effects() == [2]


@pytest.mark.parametrize("tail", ["", "€" * 79 + "a", "€" * 80, "x€" * 62, "\U0001f600" * 61])
def test_a_routing_key_that_is_cut(tail: str, queue: Queue, handling: Handling) -> None:
    """Odd bytes take more room when they are spelt out; no letter is cut in two."""
    handling(pattern="#")
    queue.declare()
    message: Any = Message(
        b"odd", application_headers={"x": "y"}, content_type="text/plain", delivery_mode=2
    )

    queue.publish_raw((message, Odd(f"tests.\udcff{tail}")))
    consumer = queue.drain()

    assert consumer.progress.dead == 1
    assert DeadLetter.objects.get().topic.startswith("tests.\\xff")


def test_parts_of_headers_that_py_amqp_lets_through_are_kept(
    queue: Queue, handling: Handling
) -> None:
    """Names that are not UTF-8, at the top and below, void, numbers of all sizes."""
    handling()
    queue.declare()
    properties = headers(
        short(b"na\xefve") + b"S" + table(b"caf\xe9"),
        short(b"inner") + b"F" + table(short(b"\xff") + b"V"),
        short(b"big") + b"l" + struct.pack(">q", -(2**63)),
        short(b"decimal") + b"D" + struct.pack(">Bi", 2, 150),
        short(b"x-delivery-count") + b"l" + struct.pack(">q", -5),
    )
    queue.publish_raw((raw(properties), "tests.happened"))

    queue.drain()

    kept = DeadLetter.objects.get().headers
    for part in (r"b'na\\xefve'", r"b'caf\\xe9'", r"b'\\xff'", str(-(2**63)), "Decimal('1.5')"):
        assert part in kept


def test_a_routing_key_that_is_not_text(queue: Queue, handling: Handling) -> None:
    """The topic is kept with its odd bytes spelt out."""
    handling(pattern="#")
    queue.declare()
    message: Any = Message(
        b"odd", application_headers={"x": "y"}, content_type="text/plain", delivery_mode=2
    )

    queue.publish_raw((message, Odd("tests.\udcff")))
    consumer = queue.drain()

    assert consumer.progress.dead == 1
    assert DeadLetter.objects.get().topic == "tests.\\xff"


class Odd(str):
    """A text that py-amqp writes with bytes which are not UTF-8."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", "surrogateescape")


def test_a_deep_but_sane_table_is_read(queue: Queue, handling: Handling) -> None:
    """Fifty levels of a table are odd, and no reason to give up on a good message."""
    handling()
    queue.declare()
    good = happened(3)
    attributes = {
        "ce-specversion": "1.0",
        "ce-id": good.id,
        "ce-source": good.source,
        "ce-type": good.type,
    }
    properties = headers(
        *[
            short(name.encode()) + b"S" + table(value.encode())
            for name, value in attributes.items()
        ],
        short(b"deep") + nested(50, b"F"),
        short(b"wide") + b"S" + table(b"x" * 3000),
    )

    queue.publish_raw((raw(properties, good.data), good.topic))
    queue.drain()

    assert effects() == [3]
