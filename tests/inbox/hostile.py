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


@dataclass(frozen=True)
class Case:
    """A message, and whether it is one that must be handled: nothing is wrong with it."""

    message: Message
    topic: str
    usable: bool


def case(number: int, seed: int) -> Case:
    """The case of a number: the same for the same seed, and no two alike."""
    r = random.Random(f"{seed}-{number}")
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
    return Case(message, HAPPENED, usable=changes == 0)


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
