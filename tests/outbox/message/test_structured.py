"""Structured and batched mode, as others send them."""

import base64
import contextlib
import json
import time
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.exceptions import InvalidEvent, UndecodableMessage
from outbox.message import codec, structured
from outbox.message.envelope import Envelope

EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
DEEP = b"[" * 50_000 + b"]" * 50_000
MEGABYTE = 1024 * 1024

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def read(body: bytes | None = None, kind: str = structured.EVENT, **members: Any) -> Envelope:
    body = json.dumps(EVENT | members).encode() if body is None else body
    return structured.decode(kind, body, topic="a.b")


def event(text: str) -> bytes:
    return b'{"specversion":"1.0","id":"1","source":"/s","type":"t",' + text.encode() + b"}"


class TestEvents:
    """One event in a body."""

    def test_minimum(self):
        """Four members make an event without data."""
        assert read() == Envelope("1", "/s", "t", b"", topic="a.b")

    def test_everything(self):
        """Each attribute is where it is in binary mode."""
        envelope = read(
            time="2026-01-02T03:04:05Z",
            subject="s",
            dataschema="https://example.org/schema",
            datacontenttype="application/json; charset=utf-8",
            partitionkey="k",
            correlationid="flow",
            causationid="parent",
            traceparent="00-1-2-01",
            tracestate="a=1",
            dataversion=2,
            tenant="ä",
            count=-7,
            flag=True,
            off=False,
            share=0.5,
            nothing=None,
            nested={"a": 1},
            Odd_Name="x",
            data={"a": 1},
        )

        assert envelope == Envelope(
            "1",
            "/s",
            "t",
            b'{"a": 1}',
            content_type="application/json; charset=utf-8",
            version=2,
            topic="a.b",
            subject="s",
            key="k",
            time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            correlation_id="flow",
            causation_id="parent",
            trace_parent="00-1-2-01",
            trace_state="a=1",
            attributes={
                "dataschema": "https://example.org/schema",
                "tenant": "ä",
                "count": "-7",
                "flag": "true",
                "off": "false",
                "share": "0.5",
            },
        )

    @pytest.mark.parametrize(
        "text", ['{ "a" : 1.50,\n "b": "\\u00e4" }', "[1e3, 1E400]", '"x"', "12345678901234567890"]
    )
    def test_json_stays_as_it_is(self, text: str):
        """Byte for byte, blanks and escapes too."""
        assert read(event(f'"data": {text} ')).data == text.encode()

    @pytest.mark.parametrize(
        ("members", "data"),
        [
            ({}, b""),
            ({"data": None}, b"null"),
            ({"data": None, "datacontenttype": "text/plain"}, b""),
            ({"data": "näh\n", "datacontenttype": "text/plain"}, "näh\n".encode()),
            ({"data": "<a/>", "datacontenttype": "application/xml"}, b"<a/>"),
            ({"data": {"a": 1}, "datacontenttype": "text/plain"}, b'{"a": 1}'),
            ({"data": "x", "datacontenttype": "application/thing+json"}, b'"x"'),
            ({"data_base64": "AP8=", "datacontenttype": "image/png"}, b"\x00\xff"),
            ({"data_base64": "AP8=", "data": None}, b"\x00\xff"),
            ({"data_base64": None, "data": 1}, b"1"),
            ({"data_base64": ""}, b""),
        ],
    )
    def test_data(self, members: dict[str, Any], data: bytes):
        """JSON, text for any other content type, or bytes in base64."""
        assert read(**members).data == data

    @pytest.mark.parametrize(
        "kind",
        [
            "application/cloudevents+json; charset=UTF-8",
            "Application/CloudEvents+JSON",
            "application/cloudevents",
        ],
    )
    def test_content_types(self, kind: str):
        """In any case, with parameters."""
        assert structured.is_structured(kind)
        assert not structured.is_batch(kind)
        assert read(kind=kind).id == "1"

    def test_a_byte_order_mark(self):
        """Some senders cannot help it."""
        assert read(b"\xef\xbb\xbf" + event('"data":1')).data == b"1"
        assert structured.split(b"\xef\xbb\xbf[{},{}]") == [b"{}", b"{}"]

    @given(JSON_VALUES, st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3))
    def test_any_data_and_any_members(self, data: Any, more: dict[str, Any]):
        """Whatever JSON there is beside them, the required attributes make an event."""
        body = json.dumps({**more, **EVENT, "data": data}, ensure_ascii=False)
        body = body.encode(errors="surrogatepass")
        try:
            envelope = read(body)
        except UndecodableMessage as exc:
            # NaN is no JSON, a lone surrogate no text; both members of data are no event.
            assert any(word in str(exc) for word in ("JSON", "data"))  # noqa: PT017
            return
        assert (envelope.id, envelope.source, envelope.type) == ("1", "/s", "t")


class TestRefusals:
    """What is no event."""

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (b"", "JSON"),
            (b"{", "JSON"),
            (b"[]", "JSON"),
            (b"null", "JSON"),
            (b"\xff", "JSON"),
            (event('"data": nan'), "JSON"),
            (event(f'"data": {"[" * 100_000}'), "nested too deep"),
            (b"{}", "specversion"),
            (event('"specversion": "0.3"'), "specversion"),
            (event('"specversion": 1.0'), ""),
            (event('"id": null'), "id is missing"),
            (event('"id": ""'), "id is missing"),
            (event('"id": {}'), "attribute id is an object"),
            (event('"source": "a\\u0000b"'), "attribute source contains"),
            (event('"data": 1, "data_base64": "AA=="'), "both"),
            (event('"data_base64": "?"'), "data"),
            (event('"data_base64": 1'), "data"),
            (event('"data_base64": "A"'), "data"),
        ],
    )
    def test_bodies(self, body: bytes, why: str):
        """Each is told, and nothing of the data quoted."""
        if not why:
            assert read(body).id == "1"
            return
        with pytest.raises(UndecodableMessage, match=why):
            read(body)

    @pytest.mark.parametrize("kind", ["application/cloudevents+avro", "application/cloudevents-x"])
    def test_other_formats(self, kind: str):
        """They are named."""
        with pytest.raises(UndecodableMessage, match=r"cloudevents.*only JSON"):
            read(kind=kind)

    def test_attributes_without_end(self):
        """Millions of them, or of characters, do not become objects in memory."""
        many = ",".join(f'"{number:07d}":1' for number in range(500_000))
        tracemalloc.start()
        for text in (many, f'"tenant":"{"x" * MEGABYTE}"', f'"data":"{"x" * MEGABYTE}","data":1'):
            with pytest.raises(UndecodableMessage, match="longer than"):
                read(event(text))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 30 * MEGABYTE

    def test_it_is_never_written(self):
        """What says that it is a whole event would be taken for one."""
        for kind in ("application/cloudevents+json", "Application/CloudEvents-batch+json"):
            with pytest.raises(InvalidEvent, match="CloudEvent of its own"):
                codec.check_content_type(kind)


class TestBatches:
    """Several events in a body."""

    @pytest.mark.parametrize(
        ("body", "events"),
        [
            (b"[]", []),
            (b" [ ] \n", []),
            (b"[{}]", [b"{}"]),
            (b'[ {"a": [1, 2]} , {"b":"],["} ]', [b'{"a": [1, 2]}', b'{"b":"],["}']),
            (b"[1, null]", [b"1", b"null"]),
            # No JSON as a whole; still each is told from the others.
            (b'[{"a":1}, {bad}, {"b":2}]', [b'{"a":1}', b"{bad}", b'{"b":2}']),
            (rb'[{"a":"\ud800"}, {"b":"\\"}]', [rb'{"a":"\ud800"}', rb'{"b":"\\"}']),
            (b'[{"a":NaN},{}]', [b'{"a":NaN}', b"{}"]),
            (b"[{},]", [b"{}"]),
            (
                b"[" + b"[" * 50_000 + b"]" * 50_000 + b",{}]",
                [b"[" * 50_000 + b"]" * 50_000, b"{}"],
            ),
        ],
        ids=range(10),
    )
    def test_events(self, body: bytes, events: list[bytes]):
        """Each as it is written, whatever it is."""
        assert structured.split(body) == events

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"[", b"[{}", b"[{}}", b"[{}] x", b'["', b"[]]", b"null", b"\xff"]
    )
    def test_what_is_no_list(self, body: bytes):
        """It stays whole."""
        with pytest.raises(UndecodableMessage, match="list of events"):
            structured.split(body)

    @given(st.lists(JSON_VALUES, max_size=6))
    def test_any_list(self, values: list[Any]):
        """As many as there are, in their order."""
        body = json.dumps(values).encode()
        assert structured.split(body) == [json.dumps(value).encode() for value in values]

    @given(st.binary(max_size=40).map(lambda body: b"[" + body))
    def test_any_body(self, body: bytes):
        """A list or a refusal, nothing else."""
        with contextlib.suppress(UndecodableMessage):
            assert all(isinstance(event, bytes) for event in structured.split(body))

    @pytest.mark.parametrize(
        "body", [b"[" + b"0," * 6_000_000 + b"0]", b"[" + b"0," * 10_000 + b"0]"]
    )
    def test_too_many(self, body: bytes):
        """Ten thousand at most; millions are not even made."""
        tracemalloc.start()
        with pytest.raises(UndecodableMessage, match="more than 10,000"):
            structured.split(body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 5 * MEGABYTE

    @pytest.mark.parametrize("part", [b"[],", b'"",', b"[{}],"])
    def test_too_many_parts(self, part: bytes):
        """What has to be taken apart piece by piece is looked at for about a second at most."""
        with pytest.raises(UndecodableMessage, match="too many lists and objects"):
            structured.split(b"[[" + part * 1_000_000)

    @pytest.mark.parametrize(
        "body",
        [
            b'[{"data":[' + b"1," * 2_000_000 + b"1]}]",
            b'["' + b'\\"' * 2_000_000,
            b'["' + b'\\"' * 2_000_000 + b"\\",
            b"[" + b"[" * 2_000_000,
            b"[[" + b'"a",' * 300_000 + b"1]]",
        ],
        ids=range(5),
    )
    def test_time_grows_with_the_size_alone(self, body: bytes):
        """No body of some megabytes is looked at twice."""
        started = time.process_time()
        with contextlib.suppress(UndecodableMessage):
            structured.split(body)
        assert time.process_time() - started < 10

    def test_a_batch_is_no_event(self):
        """It is read event by event; why it cannot be split is told."""
        kind = "application/cloudevents-batch+json; charset=utf-8"
        assert structured.is_batch(kind)
        with pytest.raises(UndecodableMessage, match="not a list"):
            read(b"{}", kind=kind)
        with pytest.raises(UndecodableMessage, match="event by event"):
            read(b"[{}]", kind=kind)


def test_base64_of_any_bytes():
    """As they were."""
    data = bytes(range(256))
    assert read(data_base64=base64.b64encode(data).decode()).data == data
