"""Messages as they came in, and those that end as dead letters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbox.delivery import Delivery
from inbox.models import DeadLetter, Receipt
from outbox.exceptions import UndecodableMessage
from tests.inbox.support import HAPPENED, Handling, effects, happened, receive
from tests.kit.support import Registered

pytestmark = pytest.mark.sqlite
in_database = pytest.mark.django_db(transaction=True)


def raw(headers: Mapping[str, object] | None = None, body: bytes = b"hello", **more: Any) -> Any:
    return Delivery(headers=headers or {}, body=body, topic="some.topic", **more)


# --- Fingerprint and headers ---------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.datetimes()
    | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary(), inner),
    max_leaves=20,
)
tables = st.dictionaries(st.text(st.characters(codec=None)), values, max_size=8)


@given(tables, st.binary(), st.none() | st.text())
def test_any_headers_can_be_kept(headers: dict[str, Any], body: bytes, kind: str | None) -> None:
    """Whatever a sender nests in its headers: JSON in ASCII without NUL, and a fingerprint."""
    delivery = raw(headers, body, content_type=kind)

    text = delivery.headers_as_json()

    assert text.isascii()
    assert "\x00" not in text
    assert set(json.loads(text)) == set(headers)
    assert len(delivery.digest()) == 64


@given(tables)
def test_the_fingerprint_does_not_depend_on_the_order(headers: dict[str, Any]) -> None:
    """A broker may reorder headers between two deliveries of one message."""
    other = dict(reversed(headers.items()))

    assert raw(headers).digest() == raw(other).digest()


@given(st.text(), st.text())
def test_different_texts_have_different_fingerprints(one: str, other: str) -> None:
    """A header is part of the fingerprint, and so is its name."""
    assert (raw({"h": one}).digest() == raw({"h": other}).digest()) is (one == other)
    assert (raw({one: 1}).digest() == raw({other: 1}).digest()) is (one == other)


@pytest.mark.parametrize(
    "changed",
    [
        {"body": b"hello!"},
        {"headers": {"a": "1"}},
        {"headers": {"a": None}},
        {"topic": "other.topic"},
        {"content_type": "text/plain"},
    ],
)
def test_every_part_counts_in_the_fingerprint(changed: dict[str, Any]) -> None:
    """Messages that differ in anything are different dead letters."""
    delivery = raw({"a": 1})

    assert replace(delivery, **changed).digest() != delivery.digest()


def test_bytes_are_kept_to_the_byte() -> None:
    """Headers that are not text are written as Python writes bytes."""
    headers = {"latin": b"caf\xe9", "table": {b"\xff": [b"\x00", Decimal("1.50")]}}

    kept = json.loads(raw(headers).headers_as_json())

    assert kept == {"latin": r"b'caf\xe9'", "table": {r"b'\xff'": [r"b'\x00'", "Decimal('1.50')"]}}


def test_an_envelope_survives_the_raw_form() -> None:
    """What is handed over in the process is what a broker would deliver."""
    message = happened(
        subject="s", time=datetime(2026, 1, 2, 3, 4, 5, 678, UTC), attributes={"a": "b"}
    )

    assert Delivery.of(message).decode() == message


def test_a_message_that_is_no_cloudevent_is_undecodable() -> None:
    """The error says what is missing."""
    with pytest.raises(UndecodableMessage, match="specversion"):
        raw().decode()


# --- Dead letters ---------------------------------------------------------------


HOSTILE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "not UTF-8": {"x": b"caf\xe9", "ce-id": b"\xff\xfe"},
    "NUL": {"ce-id": "a\x00b", "x\x00y": "\x00"},
    "lone surrogate": {"x": "\ud800"},
    "nested": {"x": {"y": [1, {"z": [None, True, 1.5]}]}},
    "dates": {"x": datetime(2026, 1, 1), "y": [datetime(1, 1, 1, tzinfo=UTC)]},  # noqa: DTZ001
    "decimals": {"x": Decimal("1.10"), "y": Decimal("NaN")},
    "infinite": {"x": float("inf"), "y": float("nan")},
    "huge": {"x": "y" * 100_000},
    "a thousand": {f"x-{number}": number for number in range(1000)},
    "long attribute": {"ce-specversion": "1.0", "ce-id": "x" * 256},
    "odd attribute": {"ce-specversion": "1.0", "ce-Not_Allowed!": "x"},
    "table for an attribute": {"ce-specversion": "1.0", "ce-id": {"a": 1}},
    "no id": {"ce-specversion": "1.0", "ce-source": "/s", "ce-type": "t"},
    "odd version": {**happened().attributes, "ce-specversion": "0.3"},
}


@in_database
@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE)
def test_an_undecodable_message_is_kept(headers: dict[str, Any]) -> None:
    """Its body byte for byte, its headers, topic and content type, and why; it is settled."""
    body = bytes(range(256))
    delivery = raw(headers, body, content_type="text/\x00odd")

    [result] = receive(delivery)

    assert (result.dead, not result.failures) == (1, True)
    dead = DeadLetter.objects.get()
    assert (dead.group, dead.reason) == ("g", DeadLetter.Reason.UNDECODABLE)
    assert bytes(dead.body) == body
    assert set(json.loads(dead.headers)) == set(headers)
    assert (dead.topic, dead.content_type) == ("some.topic", "text/\\x00odd")
    assert dead.error
    assert Receipt.objects.count() == 0


@in_database
def test_an_undecodable_message_harms_only_itself(handling: Handling) -> None:
    """Its neighbours in the batch are handled."""
    handling()

    receive(happened(1), raw(), happened(2))

    assert effects() == [1, 2]
    assert DeadLetter.objects.count() == 1


@in_database
def test_an_unknown_type_is_kept_with_its_identity(handling: Handling) -> None:
    """A person finds it by id and type."""
    handling()
    message = happened(type="tests.unknown", topic="tests.unknown")

    [result] = receive(message)

    assert (result.dead, not result.failures) == (1, True)
    dead = DeadLetter.objects.get()
    assert dead.reason == DeadLetter.Reason.UNKNOWN_TYPE
    assert (dead.message_id, dead.source, dead.type) == (message.id, "/elsewhere", "tests.unknown")
    assert "No handler of group 'g' for tests.unknown v1" in dead.error
    assert bytes(dead.body) == message.data


@in_database
def test_an_unknown_version_says_which_are_known(handling: Handling) -> None:
    """The reason tells a missing handler from one for another version."""
    handling(name="mine", version=1)

    [result] = receive(happened(version=9))

    assert not result.failures
    dead = DeadLetter.objects.get()
    assert dead.reason == DeadLetter.Reason.UNKNOWN_VERSION
    assert "v9" in dead.error
    assert "mine (v1)" in dead.error
    assert effects() == []


@in_database
def test_a_handler_of_all_versions_does_not_hide_that_another_misses_one(
    handling: Handling,
) -> None:
    """The first handles the message, and what the second misses is a dead letter."""
    handling(name="mine", version=1, pattern="tests.thing")
    handling(name="audit", pattern="tests.#")

    [result] = receive(happened(7, type="tests.thing", version=2))

    assert (result.handled, result.letters) == (1, 1)
    dead = DeadLetter.objects.get()
    assert (dead.group, dead.reason) == ("g", DeadLetter.Reason.UNKNOWN_VERSION)
    assert "mine (v1)" in dead.error
    assert "audit" not in dead.error
    assert Receipt.objects.get().handler == "audit"


@in_database
def test_with_a_handler_of_each_version_nothing_is_missed(handling: Handling) -> None:
    """The handler of the other version is not for it, and that is how it should be."""
    handling(name="first", version=1, pattern="tests.thing")
    handling(name="second", version=2, pattern="tests.thing")
    handling(name="audit", pattern="tests.#")

    [result] = receive(happened(7, type="tests.thing", version=2))

    assert (result.handled, result.letters) == (2, 0)
    assert DeadLetter.objects.count() == 0


@in_database
@pytest.mark.parametrize(
    "data", [b"", b"{", b"{}", b'{"key": 1, "number": 1}', b"\xff", b"[" * 10_000, b"null"]
)
def test_data_that_does_not_fit_is_dead_with_its_handler(data: bytes, handling: Handling) -> None:
    """A dead receipt of that handler, with the message: a mended one can have it again."""
    handling(name="typed")
    message = happened(data=data)

    [result] = receive(message)

    assert (result.dead, result.letters, list(result.failures)) == (1, 0, ["typed"])
    dead = Receipt.objects.get()
    assert (dead.handler, dead.state, dead.reason) == ("typed", "dead", "invalid_data")
    assert (bytes(dead.body or b""), dead.attempts, dead.next_attempt_at) == (data, 0, None)
    assert DeadLetter.objects.count() == 0


@in_database
def test_a_typed_event_in_another_content_type_is_dead(handling: Handling) -> None:
    """Pickle above all is never looked into."""
    handling()

    [result] = receive(happened(content_type="application/x-python-serialize", data=b"cos\n"))

    assert result.dead == 1
    assert "application/x-python-serialize" in (Receipt.objects.get().error or "")


@in_database
def test_an_event_class_that_refuses_is_dead(handling: Handling, registered: Registered) -> None:
    """Whatever its own validation raises, the consumer goes on."""

    @dataclass
    class Picky:
        number: int

        def __post_init__(self) -> None:
            raise KeyError("no such thing")

    registered("tests.picky", Picky)
    handling(pattern="tests.#")

    results = receive(happened(type="tests.picky", data=b'{"number":1}'), happened(2))

    assert [result.dead for result in results] == [1, 0]
    assert (Receipt.objects.get(state="dead").error or "").endswith("its class raised KeyError")
    assert effects() == [2]


@in_database
def test_one_handler_may_use_what_another_cannot(handling: Handling) -> None:
    """The one handles it, whatever the other misses."""
    handling(name="old", version=1, pattern=HAPPENED)
    handling(name="all", pattern="tests.#")

    [result] = receive(happened(version=2, data=b'{"anything": 1}'))

    assert (result.handled, result.dead) == (1, 1)
    assert Receipt.objects.get().handler == "all"
    assert DeadLetter.objects.get().type == HAPPENED


@in_database
def test_a_dead_letter_that_comes_again_is_kept_once() -> None:
    """In a later batch and in the same; as it was first received."""
    strange = raw({"x": 1})
    receive(strange, strange)
    first = DeadLetter.objects.get()

    [result] = receive(strange)

    assert not result.failures
    again = DeadLetter.objects.get()
    assert (again.pk, again.received) == (first.pk, first.received)


@in_database
def test_each_group_keeps_its_own_dead_letters() -> None:
    """Two queues with the same message are two things to mend."""
    receive(raw(), group="one")
    receive(raw(), group="two")

    assert set(DeadLetter.objects.values_list("group", flat=True)) == {"one", "two"}


@in_database
def test_attributes_as_long_as_they_may_be_can_be_stored(handling: Handling) -> None:
    """What decoding lets through, the receipts take."""
    handling()
    widest = "\N{GRINNING FACE}" * 255

    [result] = receive(happened(id=widest, source=widest, correlation_id=widest))

    assert result.handled == 1
    assert Receipt.objects.get().message_id == widest


def test_what_is_no_batch_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks again is told the same, without another look at the body."""
    batch = replace(
        Delivery.of(happened()), body=b"[1", content_type="application/cloudevents-batch+json"
    )
    [part] = batch.parts()
    monkeypatch.setattr("outbox.message.structured.split", None)

    assert part.parts() == [part]
    with pytest.raises(UndecodableMessage, match="no end"):
        part.decode()
    assert part.digest() == batch.digest()
