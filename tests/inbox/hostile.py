"""Messages that nobody should send: a seeded generator for the tests that fuzz the consumer."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from amqp.basic_message import Message

from tests.inbox.support import HAPPENED

WORDS = (
    "",
    " ",
    "null",
    "'; DROP TABLE django_inbox_receipt; --",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "%s%s%n",
    "\u202eevil",
    "\N{GRINNING FACE}" * 255,
    "x" * 255,
    "x" * 256,
    "x" * 20_000,
    "a\nb",
    "a\x00b",
    "\x7f",
    "\ufffe",
    "true",
    "-1",
    "1e999",
    "9" * 400,
)
CONTENT_TYPES = (
    "application/json",
    "application/json; charset=utf-16",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/x-python-serialize",
    "application/octet-stream",
    "text/plain",
    "",
    "nonsense",
    "/",
    "x" * 255,
    "application/json\x00",
)
ATTRIBUTES = (
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "dataversion",
    "partitionkey",
    "subject",
    "correlationid",
    "causationid",
    "traceparent",
    "tracestate",
)
BODIES: tuple[Callable[[random.Random], bytes], ...] = (
    lambda r: b"",
    lambda r: r.randbytes(r.randrange(200)),
    lambda r: b"[" * r.choice((10, 1_000, 100_000)),
    lambda r: b'{"a":' * r.choice((10, 1_000, 50_000)),
    lambda r: b"{}",
    lambda r: b"null",
    lambda r: b"[]",
    lambda r: b'"text"',
    lambda r: b'{"key": 1, "number": "one"}',
    lambda r: b'{"key": "k", "number": 1e400}',
    lambda r: b'{"key": "k", "number": ' + b"9" * 500 + b"}",
    lambda r: b'{"key": "k", "number": 99999999999999}',
    lambda r: b'{"key": "a\\u0000b", "number": 1}',
    lambda r: b'{"key": "\\ud800", "number": 1}',
    lambda r: b'{"key": "k", "key": "j", "number": 1, "number": 2}',
    lambda r: b'\xef\xbb\xbf{"key": "k", "number": 1}',
    lambda r: '{"key": "k", "number": 1}'.encode("utf-16"),
    lambda r: json.dumps({"key": "x" * r.choice((300, 100_000)), "number": 1}).encode(),
    lambda r: b"cos\nsystem\n(S'true'\ntR.",
    lambda r: b"\x00" * r.choice((1, 10_000)),
    lambda r: b"x" * (1_000_000 if r.random() < 0.05 else 1_000),
)


MEGABYTE = 1024 * 1024
LARGE_EVERY = 400
"""Of so many messages one has a body of 17 to 40 MiB, and another one of 1 to 12 MiB."""
EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@dataclass(frozen=True)
class Case:
    """A message, the ids of what must be handled of it, and how many rows it leaves in all.

    Nothing is wrong with what must be handled.
    """

    message: Message
    topic: str
    usable: tuple[str, ...]
    rows: int = 1


def case(number: int, seed: int) -> Case:
    """The case of a number: the same for the same seed, and no two alike."""
    r = random.Random(f"{seed}-{number}")
    if number % LARGE_EVERY in (199, 399):
        return _large(number, seed, r, over=number % LARGE_EVERY == 199)
    if number % 10 == 3:
        return _structured(number, seed, r)
    if number % 10 == 7:
        return _batched(number, seed, r)
    return _binary(number, seed, r)


def _large(number: int, seed: int, r: random.Random, *, over: bool) -> Case:
    """A message with a large body, within the limit or over it; half of the former are good."""
    size = r.randrange(17, 41) * MEGABYTE if over else r.randrange(1, 13) * MEGABYTE
    good = not over and r.random() < 0.5
    if good:
        start = f'{{"key": "k", "number": {number}, "more": "'.encode()
        body = start + b"x" * (size - len(start) - 2) + b'"}'
    else:
        part = r.choice((b"[],", b"{}", b"\x00", b'{"a":', b"\xff", b'"', b"1,", r.randbytes(1000)))
        body = r.choice((b"", b"[", b'{"key":')) + part * (size // len(part))
    headers = {
        "ce-specversion": "1.0",
        "ce-id": f"{seed}-{number}",
        "ce-source": "/elsewhere",
        "ce-type": HAPPENED,
        "x-case": number,
    }
    kind = "application/json" if good else r.choice(("application/json", EVENT, BATCH))
    message = Message(body, application_headers=headers, content_type=kind, delivery_mode=2)
    return Case(message, HAPPENED, (f"{seed}-{number}",) if good else ())


def _event(number: int, seed: int, part: int = 0) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{seed}-{number}-{part}",
        "source": "/elsewhere",
        "type": HAPPENED,
        "partitionkey": f"k{number % 10}",
        "data": {"key": f"k{number % 10}", "number": number},
    }


def _hostile_event(number: int, seed: int, part: int, r: random.Random) -> bytes:
    """What stands in the place of an event, each time another thing."""
    event = _event(number, seed, part)
    kind = r.randrange(8)
    if kind == 0:
        return b'"' + event["id"].encode() + b'"'
    if kind == 1:
        return b"{bad " + event["id"].encode() + b"}"
    if kind == 2:
        del event[r.choice(("specversion", "id", "source", "type"))]
        event["case"] = f"{number}-{part}"
    elif kind == 3:
        event[r.choice(("source", "type", "specversion"))] = r.choice(
            (None, {}, [], 7, "", "a\x00")
        )
    elif kind == 4:
        event["type"] = "elsewhere.unknown"
    elif kind == 5:
        event["data"] = r.choice((None, 7, [], "text", {"key": 1}, {"number": 10**30}))
    elif kind == 6:
        event["data_base64"] = r.choice(("?", "AA==", "", 7))
    else:
        depth = r.choice((100, 5_000, 50_000))
        nested = b"[" * depth + b"]" * depth
        return (
            json.dumps(event).encode().replace(b'"data": {', b'"deep": ' + nested + b', "data": {')
        )
    return json.dumps(event).encode()


def _odd_event(number: int, seed: int, part: int, r: random.Random) -> dict[str, Any]:
    """An event with which nothing is wrong that matters."""
    event = _event(number, seed, part)
    odd: tuple[dict[str, Any], ...] = (
        {},
        {"a" * r.randrange(21, 200): "x"},
        {"subject": "x" * r.randrange(256, 50_000), "nothing": None},
        {"time": "2016-12-31T23:59:60Z", "flag": True, "count": -7, "share": 1e300},
        {"time": r.choice(WORDS), "dataversion": None, "Odd_Name": r.choice(WORDS)},
        {"nested": {"a": [1]}, "list": [], "tenant": "a\nb", "traceparent": "x" * 1_000},
        {"correlationid": "x" * r.randrange(256, 5_000), "causationid": 7},
    )
    return event | r.choice(odd)


def _structured(number: int, seed: int, r: random.Random) -> Case:
    good = r.random() < 0.5
    if good:
        event = _odd_event(number, seed, 0, r)
        body = json.dumps(event, ensure_ascii=r.random() < 0.5).encode()
    else:
        body = _hostile_event(number, seed, 0, r)
        if r.random() < 0.3:
            body = r.choice((b"\xff" + body, body[:-1], body + b"x", b"[" + body, b""))
    kind = r.choice((EVENT, f"{EVENT}; charset=utf-8", "Application/CloudEvents+JSON"))
    headers = {"x-case": number, f"ce-{r.choice(ATTRIBUTES)}": _value(r)}
    message = Message(body, application_headers=headers, content_type=kind, delivery_mode=2)
    return Case(message, HAPPENED, (f"{seed}-{number}-0",) if good else ())


def _batched(number: int, seed: int, r: random.Random) -> Case:
    headers = {"x-case": number, f"ce-{r.choice(ATTRIBUTES)}": _value(r)}
    usable: list[str] = []
    events: list[bytes] = []
    for part in range(r.choice((0, 1, 2, 5, 30))):
        if r.random() < 0.7:
            events.append(json.dumps(_odd_event(number, seed, part, r)).encode())
            usable.append(f"{seed}-{number}-{part}")
        else:
            events.append(_hostile_event(number, seed, part, r))
    body, rows = b"[" + b", ".join(events) + b"]", len(events)
    if r.random() < 0.2:
        broken = (b"", b"{}", body[:-1], body + b"]", b"[" + b"0," * 20_000 + b"0]", b"[" * 100_000)
        body, rows, usable = r.choice(broken), 1, []
    message = Message(body, application_headers=headers, content_type=BATCH, delivery_mode=2)
    return Case(message, HAPPENED, tuple(usable), rows)


def _binary(number: int, seed: int, r: random.Random) -> Case:
    headers: dict[str, Any] = {
        "ce-specversion": "1.0",
        "ce-id": f"{seed}-{number}",
        "ce-source": "/elsewhere",
        "ce-type": HAPPENED,
        "ce-partitionkey": f"k{number % 10}",
        "x-case": number,  # makes each dead letter one of its own
    }
    body = json.dumps({"key": f"k{number % 10}", "number": number}).encode()
    properties: dict[str, Any] = {"content_type": "application/json", "delivery_mode": 2}
    changes = r.choice((0, 1, 1, 1, 2, 3))
    for _ in range(changes):
        kind = r.randrange(6)
        if kind == 0:
            body = r.choice(BODIES)(r)
        elif kind == 1:
            name = r.choice(ATTRIBUTES)
            headers[f"ce-{name}"] = _id(r, number) if name == "id" else _value(r)
        elif kind == 2:
            headers.pop(f"ce-{r.choice(ATTRIBUTES)}", None)
        elif kind == 3:
            properties["content_type"] = r.choice(CONTENT_TYPES)
        elif kind == 4:
            prefix = r.choice(("ce-", "cloudEvents:", "cloudEvents_", "CE-", "x-"))
            headers[f"{prefix}{r.choice(WORDS)[:50]}"] = _value(r)
        else:
            properties["message_id"] = r.choice(WORDS)[:60]
            properties["priority"] = r.randrange(256)
            properties["correlation_id"] = r.choice(WORDS)[:60]
    message = Message(body, application_headers=headers, **properties)
    is_empty_batch = properties["content_type"] == BATCH and body == b"[]"
    usable = (f"{seed}-{number}",) if changes == 0 else ()
    return Case(message, HAPPENED, usable, rows=0 if is_empty_batch else 1)


def _id(r: random.Random, number: int) -> Any:
    """An odd id, but one of its own: a second message of an id would be a duplicate."""
    text = f"{r.choice(WORDS)}{number}"
    return r.choice((text, text.encode(), 2**40 + number, {"id": number}, text[-255:]))


def _value(r: random.Random, depth: int = 0) -> Any:
    """A value that an AMQP table can hold."""
    simple: tuple[Any, ...] = (
        r.choice(WORDS),
        r.randbytes(r.randrange(50)),
        r.randrange(-(2**63), 2**63),
        r.choice((True, False, None)),
        r.random() * 10 ** r.randrange(-300, 300),
        Decimal(r.randrange(-(2**31), 2**31)),
        datetime(r.randrange(1971, 2100), 1, 1, tzinfo=UTC),
    )
    if depth < 4 and r.random() < 0.3:
        if r.random() < 0.5:
            return [_value(r, depth + 1) for _ in range(r.randrange(4))]
        return {f"n{n}": _value(r, depth + 1) for n in range(r.randrange(4))}
    if depth == 0 and r.random() < 0.03:
        nested: Any = "bottom"
        for _ in range(r.choice((50, 90, 300))):
            nested = {"n": nested}
        return nested
    return r.choice(simple)
