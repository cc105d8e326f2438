"""CloudEvents 1.0 in structured and in batched mode: whole events in JSON.

The JSON format of the specification, and its batch format, by content type. Data in JSON stays
as it is written there, byte for byte. Whatever a body is, reading it takes no more than a few times
its size: what hostile ones could make of it is counted before.
"""

import base64
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

import msgspec

from outbox.exceptions import UndecodableMessage
from outbox.message import cloudevents
from outbox.message.codec import is_json
from outbox.message.envelope import JSON, STRUCTURED, Envelope
from outbox.message.patterns import MAX_CACHED

EVENT = "application/cloudevents+json"
MAX_EVENTS = 10_000
"""Events in a body."""
MAX_ATTRIBUTES = 128 * 1024
"""Bytes of an event without its data: what the headers of binary mode could hold as well."""

_EVENTS = frozenset({STRUCTURED, EVENT})
_BATCHES = frozenset({f"{STRUCTURED}-batch", f"{STRUCTURED}-batch+json"})
_MANY = 200_000  # commas, from which on a list might have more elements than there is memory for
_TOKENS = 1_000_000
"""Strings and brackets of a batch that has to be taken apart piece by piece: about a second."""
_BOM = b"\xef\xbb\xbf"
_NAME = re.compile(r"[a-z0-9]+")
_OPENING = re.compile(rb"[ \t\n\r]*\[")
# An unfinished string ends with the body, so that no part of it is looked at twice.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_IN_LIST = re.compile(_STRING + rb"|[\[\]{},]", re.DOTALL)
# Brackets in a row are one token.
_DEEPER = re.compile(_STRING + rb"|[\[{]++|[\]}]", re.DOTALL)
_NULL = b"null"
_COMMA, _END = b",]"
_SPACE = b" \t\n\r"
_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


class _Data(msgspec.Struct):
    """The data of an event; everything else is skipped, and takes no memory."""

    data: msgspec.Raw = msgspec.Raw()
    data_base64: msgspec.Raw = msgspec.Raw()


_data_decoder = msgspec.json.Decoder(_Data)
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_text_decoder = msgspec.json.Decoder(str)


def is_structured(content_type: str | None) -> bool:
    """Tell whether a body is a whole event, or several, in whatever format."""
    return content_type is not None and _media_type(content_type).startswith(STRUCTURED)


def is_batch(content_type: str | None) -> bool:
    """Tell whether a body is a list of events."""
    return content_type is not None and _media_type(content_type) in _BATCHES


def decode(content_type: str, body: bytes, *, topic: str) -> Envelope:
    """Return the envelope of one event; raise UndecodableMessage if it is none."""
    media_type = _media_type(content_type)
    if media_type in _BATCHES:
        split(body)
        raise UndecodableMessage("a batch is read event by event")
    if media_type not in _EVENTS:
        raise UndecodableMessage(f"the format {media_type[:100]!r} is not read here, only JSON is")
    body = _without_mark(body)
    try:
        found = _data_decoder.decode(body)
        data, encoded = bytes(found.data), bytes(found.data_base64)
        few = len(body) - len(data) - len(encoded) <= MAX_ATTRIBUTES
        members = _members_decoder.decode(body) if few else {}
    except _ERRORS as exc:
        raise UndecodableMessage(f"not an event in JSON: {_about(exc)}") from None
    if not few:
        raise UndecodableMessage(f"its attributes are longer than {MAX_ATTRIBUTES:,} bytes")
    attributes, unusable = _attributes(members)
    payload = _payload(data, encoded, attributes.get("datacontenttype") or JSON)
    return cloudevents.envelope_of(attributes, unusable, payload, topic=topic)


def encode(envelope: Envelope) -> bytes:
    """Return an event in JSON; its data as it is if that is JSON, else in Base64."""
    event: dict[str, object] = {
        header.removeprefix(cloudevents.PREFIX): value
        for header, value in cloudevents.to_headers(envelope).items()
    }
    event["datacontenttype"] = envelope.content_type
    if is_json(envelope.content_type):
        event["data"] = msgspec.Raw(envelope.data)
    else:
        event["data_base64"] = base64.b64encode(envelope.data).decode()
    return msgspec.json.encode(event)


def split(body: bytes) -> list[bytes]:
    """Return the events of a batch, each as it is written there, good or bad.

    Raises UndecodableMessage for what is no list, or too long a list.
    """
    body = _without_mark(body)
    found: list[msgspec.Raw] | list[bytes]
    try:
        if body.count(b",") >= _MANY:
            raise ValueError("to be counted first")
        found = _list_decoder.decode(body)
    except _ERRORS:  # one bad event must not harm the others
        found = list(islice(_elements(body), MAX_EVENTS + 1))
    if len(found) > MAX_EVENTS:
        raise UndecodableMessage(f"a batch of more than {MAX_EVENTS:,} events")
    return [bytes(event) for event in found]


def _elements(body: bytes) -> Iterator[bytes]:
    """Return the elements of a list by its brackets, commas and strings alone."""
    opening = _OPENING.match(body)
    if opening is None:
        raise UndecodableMessage("not a list of events in JSON")
    start = at = opening.end()
    depth, tokens = 1, 0
    while depth:
        tokens += 1
        if tokens > _TOKENS:
            raise UndecodableMessage("a list with too many lists and objects in it")
        token = (_IN_LIST if depth == 1 else _DEEPER).search(body, at)
        if token is None:
            raise UndecodableMessage("a list of events in JSON that has no end")
        at, character = token.end(), body[token.start()]
        if character in b"[{":
            depth += at - token.start()
        elif character in b"]}":
            depth -= 1
        if depth == 0 and character != _END:
            raise UndecodableMessage("a list of events in JSON that does not end as one")
        if depth == 0 or character == _COMMA:
            element = body[start : token.start()].strip(_SPACE)
            start = at
            if element:
                yield element
    if body[at:].strip(_SPACE):
        raise UndecodableMessage("more than one list of events in JSON")


def _attributes(members: dict[str, msgspec.Raw]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the attributes of an event, and of those that cannot be used what is amiss."""
    attributes: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for name, raw in members.items():
        if name == "data" or not _NAME.fullmatch(name) or bytes(raw) == _NULL:
            continue
        try:
            attributes[name] = _text(bytes(raw))
        except cloudevents.Unusable as exc:
            unusable[name] = str(exc)
    return attributes, unusable


def _text(raw: bytes) -> str:
    """Return a JSON value as the value of an attribute: text, or as a number is written there."""
    if raw[:1] in (b"{", b"["):
        raise cloudevents.Unusable("is an object or a list, not a string")
    try:
        text = _text_decoder.decode(raw) if raw.startswith(b'"') else raw.decode()
    except _ERRORS:
        raise cloudevents.Unusable("is not UTF-8") from None
    if problem := cloudevents.forbidden(text):
        raise cloudevents.Unusable(problem)
    return text


def _payload(data: bytes, encoded: bytes, content_type: str) -> bytes:
    """Return the data of an event from its members `data` and `data_base64`."""
    both = not {data, encoded} & {b"", _NULL}
    if both:
        raise UndecodableMessage("an event with both data and data_base64")
    try:
        if encoded not in (b"", _NULL):
            return base64.b64decode(_text_decoder.decode(encoded), validate=True)
        if data.startswith(b'"') and not is_json(content_type):
            return _text_decoder.decode(data).encode()
    except _ERRORS as exc:
        raise UndecodableMessage(f"its data cannot be read: {_about(exc)}") from None
    return data if data != _NULL or is_json(content_type) else b""


def _without_mark(body: bytes) -> bytes:
    return body[len(_BOM) :] if body.startswith(_BOM) else body


def _about(exc: Exception) -> str:
    """Return what is wrong without quoting data."""
    return "nested too deep" if isinstance(exc, RecursionError) else type(exc).__name__


def _media_type(content_type: str) -> str:
    tell = _cached_media_type if len(content_type) <= MAX_CACHED else _media_type_in
    return tell(content_type)


def _media_type_in(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


_cached_media_type = lru_cache(maxsize=256)(_media_type_in)
