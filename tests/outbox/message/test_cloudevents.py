"""The wire: CloudEvents attributes as headers, in both directions."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.exceptions import UndecodableMessage
from outbox.message import cloudevents
from outbox.message.envelope import Envelope

NAMES = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda name: name not in cloudevents.RESERVED
)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=255)
SOME = TEXT.filter(bool)
ENVELOPES = st.builds(
    Envelope,
    id=SOME,
    source=SOME,
    type=SOME,
    data=st.binary(max_size=50),
    content_type=st.sampled_from(["application/json", "text/plain; charset=utf-8"]),
    version=st.integers(1, 999_999_999),
    topic=SOME,
    subject=st.none() | SOME,
    key=st.none() | SOME,
    time=st.none() | st.datetimes(timezones=st.just(UTC)),
    correlation_id=st.none() | SOME,
    causation_id=st.none() | SOME,
    trace_parent=st.none() | SOME,
    trace_state=st.none() | SOME,
    attributes=st.dictionaries(NAMES, TEXT, max_size=4),
)

HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}


def received(envelope: Envelope, headers: dict[str, Any] | None = None) -> Envelope:
    return cloudevents.from_message(
        cloudevents.to_headers(envelope) if headers is None else headers,
        envelope.content_type,
        envelope.data,
        topic=envelope.topic,
    )


def read(**attributes: Any) -> Envelope:
    headers = HEADERS | {f"ce-{name}": value for name, value in attributes.items()}
    return cloudevents.from_message(headers, "application/json", b"{}")


class TestRoundTrip:
    """What is written is read."""

    @given(ENVELOPES)
    def test_any_envelope(self, envelope: Envelope):
        """Every field comes back as it was, the data byte for byte."""
        assert received(envelope) == envelope

    @given(ENVELOPES)
    def test_header_types(self, envelope: Envelope):
        """All headers are text, as the binding of RabbitMQ has it."""
        assert all(
            type(name) is str and type(value) is str
            for name, value in cloudevents.to_headers(envelope).items()
        )

    @pytest.mark.parametrize("prefix", ["ce-", "cloudEvents:", "cloudEvents_", "CE-", "Ce-"])
    @given(envelope=ENVELOPES)
    def test_prefixes(self, prefix: str, envelope: Envelope):
        """The prefixes of both AMQP bindings are read, in any case."""
        headers = {
            name.replace("ce-", prefix, 1): value
            for name, value in cloudevents.to_headers(envelope).items()
        }
        assert received(envelope, headers) == envelope

    def test_typed_attributes(self):
        """Numbers and booleans travel in their canonical form."""
        envelope = Envelope("1", "/s", "t", b"", attributes={"a": True, "b": False, "c": -7})
        headers = cloudevents.to_headers(envelope)

        assert (headers["ce-a"], headers["ce-b"], headers["ce-c"]) == ("true", "false", "-7")

    def test_all_headers(self):
        """The headers of a full envelope, name by name."""
        envelope = Envelope(
            id="1",
            source="/s",
            type="shop.order.placed",
            data=b"{}",
            version=2,
            topic="orders",
            subject="order/1",
            key="k",
            time=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=1))),
            correlation_id="flow",
            causation_id="parent",
            trace_parent="00-1-2-01",
            trace_state="a=1",
            attributes={"tenant": "x"},
        )

        assert cloudevents.to_headers(envelope) == {
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-source": "/s",
            "ce-type": "shop.order.placed",
            "ce-dataversion": "2",
            "ce-time": "2026-01-02T02:04:05.000006Z",
            "ce-subject": "order/1",
            "ce-partitionkey": "k",
            "ce-correlationid": "flow",
            "ce-causationid": "parent",
            "ce-traceparent": "00-1-2-01",
            "ce-tracestate": "a=1",
            "ce-tenant": "x",
        }

    def test_every_field_is_on_the_wire(self):
        """No field of the envelope is forgotten, on either side."""
        own = {name for name in Envelope.__struct_fields__ if name in cloudevents.OPTIONAL}
        rest = set(Envelope.__struct_fields__) - own
        assert own == set(cloudevents.OPTIONAL)
        assert rest == {
            *("id", "source", "type", "time", "version", "attributes"),
            *("data", "content_type", "topic"),
        }


class TestReading:
    """What others send."""

    def test_minimum(self):
        """Four attributes make a CloudEvent; the rest has defaults."""
        envelope = cloudevents.from_message(HEADERS, None, b"x", topic="a.b")
        assert envelope == Envelope("1", "/s", "t", b"x", topic="a.b")
        assert (envelope.content_type, envelope.version) == ("application/json", 1)

    def test_other_headers(self):
        """Headers without a prefix are none of our business."""
        headers: dict[Any, Any] = {**HEADERS, "x-death": [{}], "id": 7, 5: 6, b"ce-id": "2"}
        assert cloudevents.from_message(headers, None, b"") == Envelope("1", "/s", "t", b"")

    @pytest.mark.parametrize(
        ("given", "declared", "expected"),
        [
            ("text/plain", "image/png", "text/plain"),
            (None, "image/png", "image/png"),
            (None, "", "application/json"),
            ("application/data", "image/png", "image/png"),
            ("application/data", "", "application/json"),
            ("Application/Data", "", "application/json"),
            ("", "", "application/json"),
        ],
    )
    def test_content_type_that_is_not_given(self, given: Any, declared: str, expected: str):
        """The property, else the attribute, else JSON; kombu's application/data is none."""
        headers = HEADERS | {"ce-datacontenttype": declared}
        assert cloudevents.from_message(headers, given, b"").content_type == expected

    def test_content_type_as_a_header(self):
        """The content type may stand in a header; the property goes first."""
        headers = HEADERS | {"ce-datacontenttype": "text/plain"}
        assert cloudevents.from_message(headers, None, b"").content_type == "text/plain"
        envelope = cloudevents.from_message(headers, "text/html", b"")
        assert (envelope.content_type, envelope.attributes) == ("text/html", {})

    @pytest.mark.parametrize(
        ("value", "text"), [(True, "true"), (False, "false"), (7, "7"), (b"\xc3\xa4", "ä")]
    )
    def test_typed_headers(self, value: object, text: str):
        """Typed headers, as AMQP allows them, are read in canonical form."""
        assert read(tenant=value).attributes == {"tenant": text}

    @pytest.mark.parametrize("name", sorted(cloudevents.OPTIONAL.values()))
    def test_empty_optional_attributes(self, name: str):
        """An empty attribute that must not be empty counts as missing."""
        assert read(**{name: ""}) == read()

    def test_empty_extension(self):
        """An extension of no known meaning may be empty."""
        assert read(tenant="").attributes == {"tenant": ""}

    @pytest.mark.parametrize(
        "value",
        [
            "2026-01-02T03:04:05Z",
            "2026-01-02t03:04:05z",
            "2026-01-02T05:04:05+02:00",
            "2026-01-02T03:04:05.000000000Z",
            "2026-01-02T03:04:05",
            "1767323045000",
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - AMQP 0-9-1 has no zones
        ],
    )
    def test_time(self, value: object):
        """Time in RFC 3339, as a timestamp of AMQP, or as milliseconds."""
        assert read(time=value).time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def test_same_attribute_twice(self):
        """The same attribute under two prefixes is accepted if both say the same."""
        headers = HEADERS | {"cloudEvents:id": "1"}
        assert cloudevents.from_message(headers, None, b"").id == "1"


class TestLiberality:
    """What is not as it should be, in attributes that need not be there."""

    @pytest.mark.parametrize("name", ["id", "source", "type", "subject", "partitionkey", "tenant"])
    def test_long_values(self, name: str):
        """The specification knows no limit; what stands for it in a column is unique."""
        long, other = "x" * 300, "x" * 299 + "y"
        envelope = read(**{name: long})
        fields = {"partitionkey": "key"}

        if name == "tenant":
            assert envelope.attributes == {"tenant": long}
        else:
            assert getattr(envelope, fields.get(name, name)) == long
        assert cloudevents.bounded(long)[:190] == "x" * 190
        assert len(cloudevents.bounded(long)) == 255
        assert cloudevents.bounded(long) != cloudevents.bounded(other)
        assert cloudevents.bounded("x" * 255) == "x" * 255

    def test_long_names(self):
        """Names SHOULD have at most 20 characters; that is the sender's matter."""
        assert read(**{"a" * 21: "x", "b" * 200: "y"}).attributes == {"a" * 21: "x", "b" * 200: "y"}

    @pytest.mark.parametrize("name", ["", "a-b", "a_b", "ä", "a b", "a\n"])
    def test_other_names(self, name: str):
        """What cannot be the name of an attribute is a header like any other."""
        assert read(**{name: "x"}) == read()

    @pytest.mark.parametrize(
        "name", ["subject", "partitionkey", "correlationid", "traceparent", "tracestate", "tenant"]
    )
    @pytest.mark.parametrize(
        "value",
        [None, [], {}, "\0", "a\nb", "\ud800", "\uffff", 2**63, 10**5000],
        ids=lambda value: repr(value)[:20] if not isinstance(value, int) else "large",
    )
    def test_values_that_are_none(self, name: str, value: object):
        """They count as missing."""
        assert read(**{name: value}) == read()

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (1.5, "1.5"),
            (Decimal("1.50"), "1.50"),
            (b"\xff\x00", "/wA="),
            (datetime(2026, 1, 2), "2026-01-02T00:00:00Z"),  # noqa: DTZ001
        ],
    )
    def test_values_of_other_types(self, value: object, text: str):
        """In their canonical form, where there is one: bytes in base64."""
        assert read(tenant=value).attributes == {"tenant": text}

    def test_contradiction(self):
        """Of an attribute with two values neither is believed; null is none."""
        assert read(tenant="a", **{}).attributes == {"tenant": "a"}
        twice = HEADERS | {"ce-tenant": "a", "cloudEvents:tenant": "b"}
        assert cloudevents.from_message(twice, None, b"").attributes == {}
        null = HEADERS | {"ce-tenant": "a", "cloudEvents:tenant": None, "cloudEvents:id": None}
        assert cloudevents.from_message(null, None, b"").attributes == {"tenant": "a"}

    @pytest.mark.parametrize("value", ["0", "-1", "1.0", "v1", "٣", "9" * 10, "9" * 200, True])
    def test_version(self, value: Any):
        """A dataversion that we would not write is another's; it can be seen as it came."""
        envelope = read(dataversion=value)

        assert envelope.version == 1
        assert envelope.attributes == {"dataversion": "true" if value is True else value}
        assert received(envelope) == envelope

    def test_no_version(self):
        """An empty one is none."""
        assert read(dataversion="") == read()

    @pytest.mark.parametrize(
        "value", ["now", "2026-13-01T00:00:00Z", "9" * 30, "0001-01-01T00:00:00+23:59", "-1", "٣"]
    )
    def test_time(self, value: str):
        """A time that is none can be seen as it came."""
        envelope = read(time=value)

        assert (envelope.time, envelope.attributes) == (None, {"time": value})
        assert received(envelope) == envelope
        assert read(time="") == read()

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
            ("2016-12-31t23:59:60.25z", datetime(2017, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)),
            ("2017-01-01 00:59:60+01:00", datetime(2017, 1, 1, tzinfo=UTC)),
            ("2026-01-02T03:60:00Z", None),
            ("9999-12-31T23:59:60Z", None),
        ],
    )
    def test_a_leap_second(self, value: str, expected: datetime | None):
        """Second 60 is the first of the next minute, as PostgreSQL has it too."""
        assert read(time=value).time == expected

    @pytest.mark.parametrize("value", ["a/\0", "\ud800", [], {}])
    def test_content_type(self, value: Any):
        """A content type that is none counts as missing."""
        assert cloudevents.from_message(HEADERS, value, b"").content_type == "application/json"

    def test_a_long_content_type(self):
        """It is kept as it is, and not remembered by anybody."""
        envelope = read(datacontenttype="x" * 1000)
        assert envelope.content_type == "application/json"
        envelope = cloudevents.from_message(HEADERS | {"ce-datacontenttype": "x" * 1000}, None, b"")
        assert envelope.content_type == "x" * 1000


class TestRefusals:
    """Anything but a valid CloudEvent is refused, and the attribute named."""

    @pytest.mark.parametrize("headers", [{}, {"x": "y"}, {"ce-id": "1"}])
    def test_no_cloud_event(self, headers: dict[str, str]):
        """What has no specversion is no CloudEvent."""
        with pytest.raises(UndecodableMessage, match="not a CloudEvent"):
            cloudevents.from_message(headers, None, b"")

    @pytest.mark.parametrize("version", ["", "1", "0.3", "1.1", 1, "1.0 "])
    def test_specversion(self, version: object):
        """Only 1.0 is spoken."""
        with pytest.raises(UndecodableMessage, match="specversion"):
            read(specversion=version)

    @pytest.mark.parametrize("name", ["id", "source", "type"])
    def test_required(self, name: str):
        """id, source and type must be there and not be empty."""
        with pytest.raises(UndecodableMessage, match=f"{name} is missing or empty"):
            read(**{name: ""})
        with pytest.raises(UndecodableMessage, match=f"{name} is missing or empty"):
            cloudevents.from_message(
                {key: value for key, value in HEADERS.items() if key != f"ce-{name}"}, None, b""
            )

    @pytest.mark.parametrize("name", ["id", "source", "type"])
    @pytest.mark.parametrize(
        "value",
        [None, 1.5, [], {}, b"\xff", "\0", "a\nb", "\ud800", "\uffff", 2**63, 10**5000],
        ids=lambda value: repr(value)[:20] if not isinstance(value, int) else "large",
    )
    def test_values(self, name: str, value: object):
        """Wrong types and forbidden characters are refused in what must be there."""
        with pytest.raises(UndecodableMessage, match=f"attribute {name} "):
            read(**{name: value})

    def test_contradiction(self):
        """One attribute with two values could mean another thing to every reader."""
        with pytest.raises(UndecodableMessage, match="id is given twice"):
            cloudevents.from_message(HEADERS | {"cloudEvents:id": "2"}, None, b"")

    def test_errors_are_short(self):
        """An error quotes no more than a few characters of a hostile value."""
        for attributes in ({"id": "\n" * 10_000}, {"type": ["x" * 255]}, {"source": b"\xff" * 255}):
            with pytest.raises(UndecodableMessage) as caught:
                read(**attributes)
            assert len(str(caught.value)) < 150

    @given(
        st.dictionaries(
            st.sampled_from([*HEADERS, "ce-time", "ce-dataversion", "ce-x", "cloudEvents:id", ""])
            | st.text(max_size=30),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats()
                | st.text()
                | st.binary()
                | st.datetimes(),
                lambda inner: st.lists(inner, max_size=2),
                max_leaves=3,
            ),
        ),
        st.none() | st.text(),
        st.binary(max_size=10),
    )
    def test_anything(self, headers: dict[str, Any], content_type: str | None, body: bytes):
        """Whatever arrives is a valid envelope or an UndecodableMessage, nothing else."""
        try:
            envelope = cloudevents.from_message(HEADERS | headers, content_type, body)
        except UndecodableMessage:
            return
        assert received(envelope) == envelope
