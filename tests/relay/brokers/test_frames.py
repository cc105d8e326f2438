"""The bytes of published messages, beside those that py-amqp makes of the same."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from amqp import spec
from amqp.basic_message import Message
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as st

from outbox.message import celery_task
from outbox.message.celery_task import TaskMessage
from outbox.message.envelope import Envelope
from relay.brokers.amqp.frames import Frames
from tests.kit.support import amqp_message

CHANNEL = 7

text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=60)
envelopes = st.builds(
    Envelope,
    id=text,
    source=text,
    type=text,
    data=st.binary(max_size=300),
    content_type=st.sampled_from(["application/json", "text/plain; charset=utf-8"]),
    version=st.integers(1, 10**9),
    topic=text,
    subject=st.none() | text,
    key=st.none() | text,
    time=st.none() | st.datetimes(timezones=st.just(UTC)),
    correlation_id=st.none() | text,
    causation_id=st.none() | text,
    attributes=st.dictionaries(
        st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True), text | st.integers(-9, 9) | st.booleans()
    ),
)


def packed(envelope: Envelope, frame_max: int, *, mandatory: bool = True) -> bytes:
    return Frames(CHANNEL, frame_max, exchange="events", mandatory=mandatory).pack(envelope)


def written_by_amqp(envelope: Envelope, frame_max: int, *, mandatory: bool = True) -> bytes:
    written = bytearray()
    connection = SimpleNamespace(frame_max=frame_max, bytes_sent=0)
    write = frame_writer(connection, SimpleNamespace(write=written.extend))
    arguments = dumps("Bssbb", (0, "events", envelope.topic, mandatory, False))
    write(1, CHANNEL, spec.Basic.Publish, arguments, amqp_message(envelope))
    return bytes(written)


@given(envelopes, st.booleans())
def test_the_bytes_are_those_of_amqp(envelope: Envelope, mandatory: bool) -> None:
    """Whatever an envelope holds."""
    assert packed(envelope, 131_072, mandatory=mandatory) == written_by_amqp(
        envelope, 131_072, mandatory=mandatory
    )


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 8176, 8177, 20_000])
def test_a_large_body_is_split_as_agreed_with_the_broker(size: int) -> None:
    """No frame, with the eight bytes around it, is larger than frame_max."""
    envelope = Envelope(
        id="1",
        source="/shop",
        type="shop.order.placed",
        data=bytes(number % 251 for number in range(size)),
        topic="shop.order.placed",
        time=datetime(2026, 11, 24, tzinfo=UTC),
    )

    assert packed(envelope, 4096) == written_by_amqp(envelope, 4096)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
tasks = st.builds(
    TaskMessage,
    exchange=st.just("") | text,
    routing_key=text,
    headers=st.dictionaries(text, values, max_size=5),
    properties=st.fixed_dictionaries(
        {"content_type": text, "content_encoding": text, "delivery_mode": st.sampled_from([1, 2])},
        optional={
            "priority": st.integers(0, 255),
            "correlation_id": text,
            "reply_to": st.just("") | text,
            "expiration": st.integers(0, 10**9).map(str),
            "message_id": text,
            "timestamp": st.integers(0, 2**62),
            "unknown": st.booleans(),
        },
    ),
    body=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
)


@given(tasks, st.booleans())
def test_the_bytes_of_a_task_are_those_of_amqp(task: TaskMessage, mandatory: bool) -> None:
    """Whatever Celery gave to its producer, after a stay in the log."""
    kept = celery_task.decode(celery_task.encode(task))
    written = bytearray()
    connection = SimpleNamespace(frame_max=4096, bytes_sent=0)
    write = frame_writer(connection, SimpleNamespace(write=written.extend))
    arguments = dumps("Bssbb", (0, task.exchange, task.routing_key, mandatory, False))
    message = Message(task.content, application_headers=dict(task.headers), **dict(task.properties))
    write(1, CHANNEL, spec.Basic.Publish, arguments, message)

    frames = Frames(CHANNEL, 4096, exchange="events", mandatory=mandatory)
    assert frames.pack_task(kept) == bytes(written)
