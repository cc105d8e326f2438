"""Payloads to bytes and back."""

import dataclasses
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.exceptions import InvalidEvent, UndecodableMessage
from outbox.message import codec
from outbox.message.envelope import Envelope
from outbox.message.event_types import EventType

PLAIN = EventType(name="tests.codec")


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass(frozen=True)
class Inner:
    amount: Decimal
    labels: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AsDataclass:
    uid: UUID
    at: datetime
    day: date
    hour: time
    span: timedelta
    total: Decimal
    colour: Colour
    level: Level
    kind: Literal["a", "b"]
    inner: Inner
    inners: list[Inner]
    by_name: dict[str, Inner]
    by_number: dict[int, str]
    tags: frozenset[str]
    raw: bytes
    maybe: Inner | None
    either: int | str
    ratio: float
    large: int


class AsStruct(msgspec.Struct, frozen=True, kw_only=True):
    uid: UUID
    at: datetime
    day: date
    total: Decimal
    colour: Colour
    inner: Inner
    maybe: Inner | None = None


class AsModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    uid: UUID
    at: datetime
    day: date
    total: Decimal
    colour: Colour
    inner: Inner
    maybe: Inner | None = None


@dataclasses.dataclass
class Measured:
    ratio: float = 0
    total: Decimal = Decimal(0)
    totals: dict[str, list[Decimal]] = dataclasses.field(default_factory=dict)
    inner: "Measured | None" = None
    any: Any = None


class MeasuredModel(pydantic.BaseModel):
    ratio: float = 0
    total: Decimal = Decimal(0)
    totals: dict[str, list[Decimal]] = {}
    inner: "Measured | None" = None
    any: Any = None


AWARE = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=st.just(UTC),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INNER = st.builds(Inner, DECIMALS, st.lists(TEXT, max_size=2).map(tuple))
SHARED: dict[str, st.SearchStrategy[Any]] = {
    "uid": st.uuids(),
    "at": AWARE,
    "day": st.dates(),
    "total": DECIMALS,
    "colour": st.sampled_from(Colour),
    "inner": INNER,
    "maybe": st.none() | INNER,
}
EVENTS = {
    AsDataclass: st.builds(
        AsDataclass,
        **SHARED,
        hour=st.times(),
        span=st.timedeltas(timedelta(-999_999), timedelta(999_999)),
        level=st.sampled_from(Level),
        kind=st.sampled_from(["a", "b"]),
        inners=st.lists(INNER, max_size=2),
        by_name=st.dictionaries(TEXT, INNER, max_size=2),
        by_number=st.dictionaries(st.integers(), TEXT, max_size=2),
        tags=st.frozensets(TEXT, max_size=2),
        raw=st.binary(max_size=10),
        either=st.integers() | TEXT,
        ratio=FLOATS,
        large=st.integers(),
    ),
    AsStruct: st.builds(AsStruct, **SHARED),
    AsModel: st.builds(AsModel, **SHARED),
}


def decoded(body: bytes, event_type: EventType | None, **changes: Any) -> Any:
    return codec.decode(Envelope("1", "/s", "tests.codec", body, **changes), event_type)


class TestRoundTrip:
    """What is encoded decodes to an equal object."""

    @pytest.mark.parametrize("schema", EVENTS, ids=lambda schema: schema.__name__)
    @given(data=st.data())
    def test_classes(self, schema: type, data: st.DataObject):
        """Dataclasses, Structs and pydantic models, with every kind of field."""
        event_type = EventType(name="tests.codec", schema=schema)
        event = data.draw(EVENTS[schema])

        again = decoded(codec.encode(event, event_type), event_type)
        assert (type(again), again) == (schema, event)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | TEXT | FLOATS,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        )
    )
    def test_plain(self, payload: Any):
        """Plain JSON values, of any shape."""
        body = codec.encode(payload, PLAIN)

        assert decoded(body, PLAIN) == payload
        assert decoded(body, None) == payload

    def test_special_values_without_a_class(self):
        """Without a class, what JSON does not have becomes text."""
        uid = UUID(int=1)
        payload = {"uid": uid, "total": Decimal("1.50"), "at": datetime(2026, 1, 1, tzinfo=UTC)}

        assert decoded(codec.encode(payload, PLAIN), None) == {
            "uid": str(uid),
            "total": "1.50",
            "at": "2026-01-01T00:00:00Z",
        }

    def test_newer_fields(self):
        """A receiver ignores fields that it does not know, and fills in defaults."""
        event_type = EventType(name="tests.codec", schema=Inner)
        assert decoded(b'{"amount":"1","new":[1]}', event_type) == Inner(Decimal(1))


UID = UUID(int=1)
AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
NAIVE = datetime(2026, 1, 2, 3, 4)  # noqa: DTZ001
DAY, HOUR, SPAN = date(2026, 1, 2), time(3, 4), timedelta(seconds=90)
UID_TEXT = "00000000-0000-0000-0000-000000000001"
# Of each type: what is accepted for it, with its form on the wire; all else of OTHERS is refused.
FORMS: list[tuple[Any, list[tuple[Any, str]]]] = [
    (int, [(1, "1"), (2**53 + 1, "9007199254740993"), (Level.LOW, "1")]),
    (bool, [(True, "true")]),
    # An int is a float by the rules of typing, as long as a float can hold it.
    (float, [(1.5, "1.5"), (1, "1"), (Level.LOW, "1")]),
    (Decimal, [(Decimal("1.50"), '"1.50"'), ("1.50", '"1.50"')]),
    (UUID, [(UID, f'"{UID_TEXT}"'), (UID_TEXT, f'"{UID_TEXT}"')]),
    (
        datetime,
        [(AT, '"2026-01-02T03:04:00Z"'), ("2026-01-02T03:04:00Z", '"2026-01-02T03:04:00Z"')],
    ),
    (date, [(DAY, '"2026-01-02"'), ("2026-01-02", '"2026-01-02"')]),
    (time, [(HOUR, '"03:04:00"')]),
    (timedelta, [(SPAN, '"PT90S"')]),
    (Colour, [(Colour.RED, '"r"'), ("r", '"r"')]),
    (Level, [(Level.LOW, "1"), (1, "1")]),
    (Inner, [(Inner(Decimal(1)), '{"amount":"1","labels":[]}')]),
    # Text is whatever has a form as text.
    (
        str,
        [
            *((text, f'"{text}"') for text in ("x", "r", "1.50", UID_TEXT, "2026-01-02")),
            ("2026-01-02T03:04:00", '"2026-01-02T03:04:00"'),
            ("2026-01-02T03:04:00Z", '"2026-01-02T03:04:00Z"'),
            (UID, f'"{UID_TEXT}"'),
            (AT, '"2026-01-02T03:04:00Z"'),
            (DAY, '"2026-01-02"'),
            (HOUR, '"03:04:00"'),
            (SPAN, '"PT90S"'),
            (Decimal("1.50"), '"1.50"'),
            (Colour.RED, '"r"'),
            (b"\xff", '"/w=="'),
        ],
    ),
]
OTHERS: list[Any] = [
    *(1, True, 1.5, 2**53 + 1, None, "x", "r", "1.50", UID_TEXT, "2026-01-02"),
    *("2026-01-02T03:04:00", "2026-01-02T03:04:00Z", b"\xff", UID, AT, NAIVE, DAY, HOUR, SPAN),
    *(Decimal("1.50"), Colour.RED, Level.LOW, Inner(Decimal(1)), [1], {}, Inner(1)),  # type: ignore[arg-type]
]
SHAPES = {
    "itself": (lambda each: each, lambda each: each, "%s"),
    "optional": (lambda each: each | None, lambda each: each, "%s"),
    "list": (lambda each: list[each], lambda each: [each], "[%s]"),
    "tuple": (lambda each: tuple[each, ...], lambda each: (each,), "[%s]"),
    "tuple for a list": (lambda each: list[each], lambda each: (each,), "[%s]"),
    "dict": (lambda each: dict[str, each], lambda each: {"a": each}, '{"a":%s}'),
}


def made(schema: str, declared: Any, value: Any) -> tuple[Any, EventType]:
    """An event with one field of a type, and a value of another perhaps."""
    cls: Any
    if schema == "dataclass":
        cls = dataclasses.make_dataclass("Made", [("field", declared)])
    else:
        cls = msgspec.defstruct("Made", [("field", declared)])
    return cls(field=value), EventType(name="tests.codec", schema=cls)


@pytest.mark.parametrize("schema", ["dataclass", "struct"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("declared", "forms"), FORMS, ids=[row[0].__name__ for row in FORMS])
def test_each_type_has_one_form(
    schema: str, shape: str, declared: Any, forms: list[tuple[Any, str]]
):
    """What is accepted for a type has its form on the wire; all else is refused."""
    wrap, put, written = SHAPES[shape]
    for value, form in forms:
        event, event_type = made(schema, wrap(declared), put(value))
        assert codec.encode(event, event_type) == b'{"field":%s}' % (written % form).encode()
    for other in OTHERS:
        accepted = any(type(other) is type(value) and other == value for value, _ in forms)
        if accepted or (shape == "optional" and other is None):
            continue
        event, event_type = made(schema, wrap(declared), put(other))
        with pytest.raises(InvalidEvent, match=r"tests\.codec"):
            codec.encode(event, event_type)


class TestNumbers:
    """Numbers of another kind than the class says."""

    @pytest.mark.parametrize(("value", "kind"), [(1, "int"), (1.5, "float")])
    @pytest.mark.parametrize("place", ["total", "totals", "inner"])
    def test_no_number_stands_for_a_decimal(self, place: str, value: float, kind: str):
        """It would be a number on the wire, where a Decimal is text."""
        wrong: Any = {"total": value, "totals": {"a": [value]}, "inner": Measured(total=value)}  # type: ignore[arg-type]
        event = Measured(**{place: wrong[place]})
        where = {"total": "total", "totals": "totals.a[0]", "inner": "inner.total"}[place]

        with pytest.raises(InvalidEvent) as caught:
            codec.encode(event, EventType(name="tests.codec", schema=Measured))
        assert f"{kind} in the place of a Decimal at $.{where}; make it one" in str(caught.value)

    def test_a_default_that_is_no_decimal(self):
        """What a class fills in is looked at like all else."""
        cls = dataclasses.make_dataclass("Made", [("total", Decimal, dataclasses.field(default=0))])
        with pytest.raises(InvalidEvent, match="in the place of a Decimal"):
            codec.encode(cls(), EventType(name="tests.codec", schema=cls))

    def test_an_int_that_no_float_holds(self):
        """It would arrive as another number."""
        event_type = EventType(name="tests.codec", schema=Measured)
        assert codec.encode(Measured(ratio=2**53), event_type)
        with pytest.raises(InvalidEvent, match=r"at \$\.ratio, which cannot hold it"):
            codec.encode(Measured(ratio=2**53 + 1), event_type)

    def test_by_name_they_are_as_json_has_them(self):
        """A mapping becomes an instance first, whose Decimal is one."""
        event_type = EventType(name="tests.codec", schema=Measured)
        assert codec.build({"total": 1.5}, event_type).total == Decimal("1.5")


class TestBuild:
    """Payloads that are emitted by name."""

    def test_renamed_fields(self):
        """Keywords are the names of the class, whatever they are called on the wire."""

        class Renamed(msgspec.Struct, rename="camel"):
            order_id: int

        event_type = EventType(name="tests.codec", schema=Renamed)
        event = codec.build({"order_id": 7}, event_type)

        assert event == Renamed(7)
        assert codec.encode(event, event_type) == b'{"orderId":7}'

    def test_own_validation(self):
        """The class's own checks run."""

        @dataclasses.dataclass
        class Positive:
            number: int

            def __post_init__(self) -> None:
                if self.number < 1:
                    raise ValueError("must be positive")

        with pytest.raises(InvalidEvent, match="its class raised ValueError") as caught:
            codec.build({"number": 0}, EventType(name="tests.codec", schema=Positive))
        assert str(caught.value.__cause__) == "must be positive"

    @pytest.mark.parametrize("extra", ["allow", "forbid"])
    def test_pydantic_decides_about_extra_fields(self, extra: str):
        """A model that says what to do with unknown fields is not overruled."""
        model = pydantic.create_model(
            "Extra", __config__=pydantic.ConfigDict(extra=extra), known=(int, ...)
        )
        event_type = EventType(name="tests.codec", schema=model)
        if extra == "allow":
            assert codec.build({"known": 1, "more": 2}, event_type).more == 2
        else:
            with pytest.raises(InvalidEvent, match="extra_forbidden"):
                codec.build({"known": 1, "more": 2}, event_type)

    def test_pydantic_aliases(self):
        """Every name that a model reads is known."""

        class Aliased(pydantic.BaseModel):
            model_config = pydantic.ConfigDict(populate_by_name=True)

            one: int = pydantic.Field(validation_alias="uno")
            two: int = pydantic.Field(validation_alias=pydantic.AliasChoices("dos", "deux"))

        event_type = EventType(name="tests.codec", schema=Aliased)
        assert codec.build({"uno": 1, "deux": 2}, event_type) == codec.build(
            {"one": 1, "two": 2}, event_type
        )

    @pytest.mark.parametrize("payload", [Inner(Decimal(1)), {"amount": "1"}])
    def test_instances_stay_what_they_are(self, payload: Inner | Mapping[str, Any]):
        """An instance is returned as it is, a mapping becomes one."""
        event_type = EventType(name="tests.codec", schema=Inner)
        assert codec.build(payload, event_type) == Inner(Decimal(1))


class TestDecode:
    """Whatever arrives becomes a payload or an UndecodableMessage."""

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"\xff", b"null", b"[]", b'{"amount":true}', b"{}", b"[" * 100_000],
        ids=lambda body: repr(body)[:12],
    )
    @pytest.mark.parametrize("schema", [Inner, AsStruct, AsModel], ids=lambda each: each.__name__)
    def test_what_does_not_fit(self, schema: type, body: bytes):
        """Broken JSON and wrong shapes; the error names the event."""
        with pytest.raises(UndecodableMessage, match=r"data of tests\.codec v1"):
            decoded(body, EventType(name="tests.codec", schema=schema))

    @pytest.mark.parametrize("body", [b"{", b"\xff", b"NaN", b"[" * 100_000])
    def test_broken_json_without_a_class(self, body: bytes):
        """Also where any JSON would do."""
        with pytest.raises(UndecodableMessage):
            decoded(body, None)

    @pytest.mark.parametrize("schema", [None, Measured, MeasuredModel])
    @pytest.mark.parametrize(
        "literal",
        [
            "NaN",
            "Infinity",
            "-Infinity",
            "nan",
            "inf",
            "+1",
            ".5",
            "01",
            "True",
            "'a'",
            "1,",
        ],
    )
    def test_what_other_senders_take_for_json(self, schema: type | None, literal: str):
        """Literals that JSON does not have are refused wherever they stand, by every decoder."""
        event_type = schema and EventType(name="tests.codec", schema=schema)
        for body in (
            f'{{"ratio":{literal}}}',
            f'{{"any":[{literal}]}}',
            f'{{"ratio":1,"x":{literal}}}',
        ):
            with pytest.raises(UndecodableMessage, match=r"data of tests\.codec v1"):
                decoded(body.encode(), event_type or None)

    @pytest.mark.parametrize("schema", [Measured, MeasuredModel])
    @pytest.mark.parametrize(
        "value", ["NaN", "nan", "sNaN", "NaN1", "-Infinity", "inf", " I_nf", "\\u004eaN"]
    )
    @pytest.mark.parametrize(
        "body",
        ['{"total":"%s"}', '{"totals":{"a":["%s"]}}', '{"inner":{"total":"%s"}}'],
    )
    def test_text_that_is_read_as_no_number(self, schema: type, value: str, body: str):
        """Nor may a number come as text that says it is none."""
        with pytest.raises(UndecodableMessage):
            decoded((body % value).encode(), EventType(name="tests.codec", schema=schema))

    def test_float_as_text_that_is_no_number(self):
        """pydantic reads floats from text as well; the error says which."""
        event_type = EventType(name="tests.codec", schema=MeasuredModel)
        for text in ("NaN", "inf"):
            with pytest.raises(UndecodableMessage, match=r"not a finite number at \$\.ratio"):
                decoded(f'{{"ratio":"{text}"}}'.encode(), event_type)

    @pytest.mark.parametrize("schema", [None, Measured, MeasuredModel])
    def test_numbers_too_large_for_a_float(self, schema: type | None):
        """They would be read as infinity."""
        event_type = schema and EventType(name="tests.codec", schema=schema)
        with pytest.raises(UndecodableMessage, match="Number out of range"):
            decoded(b'{"ratio":1e999}', event_type or None)

    def test_default_that_is_infinite(self):
        """What a class fills in itself is its own business, whatever words are in the data."""

        @dataclasses.dataclass
        class Limited:
            note: str
            limit: float = float("inf")

        event_type = EventType(name="tests.codec", schema=Limited)
        body = b'{"note":"for your information, nan"}'
        assert decoded(body, event_type).limit == float("inf")

    @pytest.mark.parametrize("schema", [Measured, MeasuredModel])
    def test_words_that_look_like_it(self, schema: type):
        """Text is text, and a number is a number."""
        event_type = EventType(name="tests.codec", schema=schema)
        body = b'{"any":["NaN","Infinity"],"ratio":1e3,"total":"1.5"}'

        event = decoded(body, event_type)

        assert (event.any, event.ratio, event.total) == (["NaN", "Infinity"], 1000, Decimal("1.5"))

    def test_no_data(self):
        """A message without data has no payload."""
        assert decoded(b"", None) is None

    @pytest.mark.parametrize("error", [KeyError, ZeroDivisionError, RuntimeError])
    def test_class_that_raises(self, error: type[Exception]):
        """A class that fails on hostile data in a way of its own does not break the receiver."""

        @dataclasses.dataclass
        class Fragile:
            number: int

            def __post_init__(self) -> None:
                raise error("oops")

        with pytest.raises(UndecodableMessage, match=f"its class raised {error.__name__}"):
            decoded(b'{"number":1}', EventType(name="tests.codec", schema=Fragile))

    def test_class_that_cannot_be_decoded(self):
        """So does a class with a type that nothing can decode."""

        @dataclasses.dataclass
        class Broken:
            what: "Missing"  # type: ignore[name-defined]  # noqa: F821

        with pytest.raises(UndecodableMessage, match="Missing"):
            decoded(b'{"what":1}', EventType(name="tests.codec", schema=Broken))

    def test_other_content(self):
        """What is not JSON stays bytes, and is never an instance of a class."""
        assert decoded(b"\x80\x04.", None, content_type="application/x-pickle") == b"\x80\x04."
        with pytest.raises(UndecodableMessage, match="content type is 'text/plain'"):
            decoded(b"{}", EventType(name="t", schema=Inner), content_type="text/plain")

    @given(st.binary())
    def test_anything(self, body: bytes):
        """No body does anything else."""
        for schema in (None, Inner, AsModel):
            try:
                decoded(body, EventType(name="tests.codec", schema=schema))
            except UndecodableMessage:
                continue


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.shop+json", True),
        ("application/jsonlines", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_is_json(content_type: str, expected: bool):
    """application/json and every +json are JSON, whatever their parameters."""
    assert codec.is_json(content_type) is expected


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/plain; charset=utf-8", "application/vnd.a-b.c+xml;v=1"]
)
def test_accepted_content_types(content_type: str):
    """Well-formed content types pass, with parameters."""
    codec.check_content_type(content_type)
