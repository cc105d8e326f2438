"""Everything that can be refused is refused at emit, and whatever is refused writes nothing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.db import transaction

import outbox
from outbox.models import Message
from tests.outbox.helpers import Billed, Line, Packed, Rich
from tests.outbox.placed import Placed
from tests.outbox.producer.test_emit import RICH

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - what these tests are about


def described(value: object) -> str:
    """Name a value in a test's id, the same in every process."""
    return re.sub(r" at 0x\w+|\d{4}, .*", "", repr(value))[:30]


@pytest.fixture(autouse=True)
def _transaction() -> Iterator[None]:
    with transaction.atomic():
        yield


def refused(event: object, payload: Any = None, **options: Any) -> str:
    """Return why an event is refused, alone and among many; make sure that nothing is written."""
    with pytest.raises(outbox.InvalidEvent) as alone:
        outbox.emit(event, payload, **options)
    good = outbox.Draft(event=Placed(1))
    bad = outbox.Draft(event=event, payload=payload, **options)
    with pytest.raises(outbox.InvalidEvent):
        outbox.emit_many([good, bad, good])
    with pytest.raises(outbox.InvalidEvent):
        outbox.emit_many([good] * 200 + [bad])
    assert not Message.objects.exists()
    return str(alone.value)


class TestValues:
    """Values that would not arrive as they were meant."""

    @pytest.mark.parametrize(
        ("payload", "path"),
        [
            (NAIVE, "$"),
            ({"at": NAIVE}, "$.at"),
            ({"a": [{"b": (1, NAIVE)}]}, "$.a[0].b[1]"),
            ({"a": {NAIVE: 1}}, "a key of $.a"),
            ({"a": {NAIVE}}, "$.a[0]"),
        ],
    )
    def test_naive_datetime(self, payload: object, path: str):
        """A naive datetime is refused at any depth, with its path."""
        assert f"naive datetime at {path};" in refused("tests.plain", payload)

    def test_naive_datetime_in_a_class(self):
        """Also in a field of a dataclass, a Struct and a pydantic model."""
        rich = {name: getattr(RICH, name) for name in RICH.__dataclass_fields__}
        assert "naive datetime at $.at" in refused(Rich(**{**rich, "at": NAIVE}))
        assert "naive datetime at $.at" in refused(Packed(1, Decimal(1), at=NAIVE))
        billed = Billed(invoiceNumber="1", amount=Decimal(1), at=NAIVE)
        assert "naive datetime at $.at" in refused(billed)

    def test_naive_datetime_as_text(self):
        """Text that would be read as a naive datetime is refused as well."""
        payload = {"order_id": 1, "weight": "1", "at": "2026-01-01T00:00:00"}
        assert "naive datetime at $.at" in refused("tests.packed", payload)
        assert "naive datetime at $.at" in refused(Packed(1, Decimal(1), at="2026-01-01T00:00:00"))

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_not_finite(self, value: float):
        """NaN and infinity have no form in JSON, not even where null would do."""
        assert "$.a[0]" in refused("tests.plain", {"a": [value]})
        assert "no form in JSON" in refused("tests.plain", {value: 1})
        assert "no form in JSON" in refused("tests.plain", Decimal(value))
        rich = {name: getattr(RICH, name) for name in RICH.__dataclass_fields__}
        assert "$.ratio" in refused(Rich(**{**rich, "ratio": value}))
        assert "$.ratio" in refused(Billed(invoiceNumber="1", amount=Decimal(1), ratio=value))

    @pytest.mark.parametrize("payload", ["a\0b", {"a": ["\0"]}, {"\0": 1}, [{"a": {"b\0": None}}]])
    def test_nul(self, payload: object):
        """NUL is refused in values and names, since no PostgreSQL receiver could store it."""
        assert "NUL" in refused("tests.plain", payload)

    def test_nul_in_a_class(self):
        """Also in a field of a dataclass and of a pydantic model."""
        assert "NUL" in refused(Placed(1, "\0"))
        assert "NUL" in refused(Billed(invoiceNumber="\0", amount=Decimal(1)), key="k")

    def test_what_only_looks_like_nul(self):
        """A backslash and u0000 are six characters like any others."""
        assert outbox.emit("tests.plain", "\\u0000").data == b'"\\\\u0000"'

    @pytest.mark.parametrize("payload", ["\ud800", {"\udfff": 1}, ["a", {"b": "\ud800"}]])
    def test_lone_surrogate(self, payload: object):
        """Half a character cannot be encoded."""
        assert "cannot be encoded" in refused("tests.plain", payload)

    @pytest.mark.parametrize(
        "payload", [object(), {"a": lambda: 1}, {(1, 2): 3}, Message, 1j], ids=described
    )
    def test_unserialisable(self, payload: object):
        """What JSON cannot express is refused."""
        assert "tests.plain v1 cannot be encoded" in refused("tests.plain", payload)

    def test_too_deep(self):
        """So is what nests without end."""
        payload: list[Any] = []
        payload.append(payload)
        assert "cannot be encoded" in refused("tests.plain", payload)


class TestClasses:
    """Payloads are checked against the class of their event type."""

    @pytest.mark.parametrize(
        "event",
        [
            Placed("1"),  # type: ignore[arg-type]
            Placed(True),
            Placed(None),  # type: ignore[arg-type]
            Placed(1, 2),  # type: ignore[arg-type]
            Packed(1, "heavy"),  # type: ignore[arg-type]
            Packed(1.5, Decimal(1)),  # type: ignore[arg-type]
            Billed.model_construct(invoice="1", amount="much"),
        ],
        ids=described,
    )
    def test_wrong_type(self, event: object):
        """Dataclasses and Structs do not look at their values; emit() does."""
        assert "cannot be encoded" in refused(event, key="k")

    def test_wrong_type_deep_inside(self):
        """The error names the path of the field."""
        rich = {name: getattr(RICH, name) for name in RICH.__dataclass_fields__}
        assert "$.lines[0].sku" in refused(Rich(**{**rich, "lines": [Line(7, Decimal(1))]}))

    @pytest.mark.parametrize(
        ("name", "payload"),
        [
            ("tests.placed", {"order_id": 1, "not": "a", "nor": "b"}),
            ("tests.packed", {"order_id": 1, "weight": "1", "nor": 1, "not": 2}),
            ("tests.billed", {"invoiceNumber": "1", "amount": "1", "nor": 1, "not": 2}),
        ],
    )
    def test_unknown_fields(self, name: str, payload: dict[str, object]):
        """Names that the class would ignore are refused, and the known ones told."""
        message = refused(name, payload)
        assert "unknown fields nor, not; known: " in message

    @pytest.mark.parametrize("name", ["tests.placed", "tests.packed", "tests.billed"])
    @pytest.mark.parametrize("payload", [{}, [], "text", 7, Line("a", Decimal(1))], ids=described)
    def test_what_is_not_the_class(self, name: str, payload: object):
        """Missing fields, other shapes and other classes are refused."""
        assert refused(name, payload, key="k")

    def test_missing_payload(self):
        """An event type with a class needs a payload."""
        assert "needs a payload" in refused("tests.placed")

    def test_payload_beside_an_object(self):
        """An event object is its own payload and version."""
        assert "its own payload" in refused(Placed(1), {"order_id": 2})
        assert "its own payload" in refused(Placed(1), version=1)

    def test_draft_in_a_draft(self):
        """A Draft is for emit_many()."""
        with pytest.raises(TypeError, match="emit_many"):
            outbox.emit(outbox.Draft(event=Placed(1)))

    @pytest.mark.parametrize("events", [5, None, Placed(1), "tests.placed", {"order_id": 1}])
    def test_one_where_many_are_expected(self, events: Any):
        """What is no series of events is told so, also where one could go through its parts."""
        with pytest.raises(outbox.InvalidEvent, match=r"takes several events.*use emit\(\)"):
            outbox.emit_many(events)
        with pytest.raises(outbox.InvalidEvent, match="takes several events"):
            outbox.emit_many(outbox.Draft(event=Placed(1)))

    def test_unknown_option(self):
        """A misspelt option is an error, not an attribute."""
        with pytest.raises(
            TypeError, match=r"emit\(\) has no option .kee.; its options are key, subject"
        ):
            outbox.emit(Placed(1), kee="k")


class TestTypes:
    """Event types must be known."""

    @pytest.mark.parametrize("event", [Line("a", Decimal(1)), object(), 7, Line])
    def test_unregistered_class(self, event: object):
        """An object of a class that is no event is refused, and the way to mend it told."""
        with pytest.raises(outbox.UnknownEventType, match=r"@outbox\.event"):
            outbox.emit(event)

    def test_class_of_an_event(self):
        """The class itself says nothing that could be published; the way to mend it is told."""
        assert "Emit an instance of it: Placed(...)" in refused(Placed)

    def test_subclass(self):
        """A subclass is another class: what it adds would be lost."""

        @dataclass(frozen=True)
        class More(Placed):
            extra: int = 0

        assert "is not an event" in refused(More(1))

    def test_unknown_name(self):
        """A name that nobody registered is refused."""
        with pytest.raises(outbox.UnknownEventType, match=r"outbox\.register\('tests\.nothing'\)"):
            outbox.emit("tests.nothing", {})

    @pytest.mark.parametrize("name", ["", ".", "a..b", "a b", "ä", "a.*", "a\n", "x" * 256])
    def test_malformed_name(self, name: str):
        """A name that could not be routed is refused for its form."""
        assert "Malformed event type" in refused(name, {})

    @pytest.mark.parametrize("version", [0, 2, 99, "1"])
    def test_unknown_version(self, version: Any):
        """A version that nobody registered is refused, and the known ones told."""
        assert "Known versions: 1." in refused("tests.placed", {"order_id": 1}, version=version)


class TestKey:
    """Key and subject, correlation and causation."""

    @pytest.mark.parametrize("option", ["key", "subject"])
    @pytest.mark.parametrize("value", ["", 1.5, True, b"k", ["k"], object()], ids=described)
    def test_wrong_value(self, option: str, value: object):
        """Only text, whole numbers and UUIDs; never empty."""
        assert refused("tests.plain", {}, **{option: value}).startswith(option)

    @pytest.mark.parametrize("option", ["key", "subject", "correlation_id", "causation_id"])
    @pytest.mark.parametrize("value", ["a\0", "\ud800", "a\nb", "\x7f", "\ufffe", "x" * 256])
    def test_unstorable_text(self, option: str, value: str):
        """No NUL, no surrogates, none of what CloudEvents forbids, at most 255 characters."""
        assert refused("tests.plain", {}, **{option: value}).startswith(option)

    @pytest.mark.parametrize("payload", [{}, {"id": None}, {"id": ""}, 7])
    def test_missing_in_the_payload(self, registered: Any, payload: object):
        """What the event type takes from the payload must be there."""
        registered("tests.by_id", key="id")
        assert refused("tests.by_id", payload)

    def test_function_that_finds_nothing(self, registered: Any):
        """A key function must return a key."""
        registered("tests.by_function", key=lambda payload: None)
        assert "requires" in refused("tests.by_function", {})

    def test_trace_of_the_context(self):
        """What the context hands down comes from outside: left out, and no reason to refuse."""
        for trace in ({"trace_parent": "\0"}, {"trace_state": "x" * 1025}):
            with outbox.use_context(**trace), transaction.atomic():
                envelope = outbox.emit("tests.plain", {})
            assert (envelope.trace_parent, envelope.trace_state) == (None, None)


class TestSizeAndContent:
    """How large, and of what kind."""

    @pytest.mark.parametrize("margin", [0, 1])
    def test_size(self, settings: Any, margin: int):
        """Data of exactly the limit is accepted, one byte more is not."""
        settings.OUTBOX = {"MAX_DATA_BYTES": 100}
        for payload, options in (
            ("ä" * 49 + "x" * margin, {}),
            (b"x" * (100 + margin), {"content_type": "text/plain"}),
        ):
            if margin:
                assert "101 bytes" in refused("tests.plain", payload, **options)
                with pytest.raises(outbox.PayloadTooLarge):
                    outbox.emit("tests.plain", payload, **options)
            else:
                assert len(outbox.emit("tests.plain", payload, **options).data) == 100

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/x-python-serialize",
            "application/x-pickle",
            "Application/Python-PICKLE",
            "application/pickle; a=b",
        ],
    )
    def test_pickle(self, content_type: str):
        """Pickled data is never accepted."""
        assert "never accepted" in refused("tests.plain", b"x", content_type=content_type)

    @pytest.mark.parametrize(
        "content_type",
        ["", "json", "a/b/c", "ä/b", "a/b\n", "a/\0", "/", "a b/c", "a/" + "x" * 254, None, 7],
    )
    def test_malformed_content_type(self, content_type: Any):
        """A content type has a type and a subtype, in ASCII."""
        assert "Malformed" in refused("tests.plain", b"x", content_type=content_type)

    def test_bytes_as_json(self):
        """Bytes are not taken for JSON: nobody has looked at them."""
        assert "content_type" in refused("tests.plain", b"{}")
        assert "content_type" in refused("tests.plain", b"{}", content_type="text/x+json")

    def test_bytes_for_a_class(self):
        """An event type with a class takes no bytes."""
        assert refused("tests.placed", b"{}", content_type="application/x-thing")

    def test_object_as_something_else(self):
        """What is not JSON must come as bytes."""
        assert "needs bytes" in refused("tests.plain", {}, content_type="application/xml")
        assert "needs bytes" in refused(Placed(1), content_type="application/xml")


class TestAttributes:
    """Extension attributes of CloudEvents."""

    @pytest.mark.parametrize("name", ["", "A", "a-b", "a_b", "ä", "a" * 21, "a\n", 7, None])
    def test_malformed_name(self, name: Any):
        """Names have 1 to 20 lower-case letters or digits."""
        assert "Extension attribute" in refused("tests.plain", {}, attributes={name: "x"})

    @pytest.mark.parametrize(
        "name", ["id", "source", "type", "time", "data", "specversion", "partitionkey"]
    )
    def test_reserved_name(self, name: str):
        """What the outbox sets itself cannot be given."""
        assert "outbox itself" in refused("tests.plain", {}, attributes={name: "x"})

    @pytest.mark.parametrize(
        "value",
        [1.5, None, b"x", [], 2**31, -(2**31) - 1, "a\0", "\ud800", "x" * 256, datetime.now(UTC)],
        ids=described,
    )
    def test_value(self, value: Any):
        """Values are text, booleans or 32-bit integers."""
        assert "Extension attribute 'a'" in refused("tests.plain", {}, attributes={"a": value})

    @pytest.mark.parametrize("attributes", [None, "ab", ["a"], 7])
    def test_not_a_mapping(self, attributes: Any):
        """They come as a mapping."""
        assert "mapping" in refused("tests.plain", {}, attributes=attributes)


def test_a_timedelta_and_a_wall_clock_time_are_fine():
    """What has a meaning without a time zone is accepted."""
    body = outbox.emit("tests.plain", [timedelta(hours=1), NAIVE.time(), NAIVE.date()]).data
    assert msgspec.json.decode(body) == ["PT3600S", "00:00:00", "2026-01-01"]
