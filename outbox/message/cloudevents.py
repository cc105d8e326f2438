"""CloudEvents 1.0 in binary mode over AMQP 0-9-1: attributes as `ce-` headers, data as the body.

The RabbitMQ binding of the CloudEvents SDK: every header a string, `datacontenttype` in the
content-type property. Headers with the prefixes of the AMQP 1.0 binding are read as well.
Own extensions: `partitionkey` (key), `dataversion` (version), `correlationid`, `causationid`.

Strict in what is written, liberal in what is read: an event is usable if its id, source and type
are. What is amiss with any other attribute makes it missing; the headers are kept as they came.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from outbox.exceptions import UndecodableMessage
from outbox.message.envelope import JSON, Envelope
from outbox.message.patterns import MAX_CACHED

SPEC_VERSION = "1.0"
PREFIX = "ce-"
# What kombu writes for a message that was published without a content type.
_UNKNOWN_CONTENT = "application/data"
_READ_PREFIXES = (PREFIX, "cloudevents:", "cloudevents_")
ATTRIBUTE_NAME = re.compile(r"[a-z0-9]{1,20}")
"""Of what is written; the length is a wish of the specification, which senders may ignore."""
MAX_ATTRIBUTE = 255
MAX_TRACE_STATE = 1024
_READ_NAME = re.compile(r"[a-z0-9]+")
_REQUIRED = ("id", "source", "type")
# What a CloudEvents string must not contain: controls, surrogates, noncharacters.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_CHARACTER = r"(?:[\w.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
# RFC 3986, appendix A, with any characters between the brackets of an IP address. A reference
# without a scheme has no colon in its first segment.
_URI_REFERENCE = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#]*:))(?://(?:{_CHARACTER}|[\[\]])*(?=[/?#]|\Z))?"
    rf"(?:{_CHARACTER}|/)*(?:\?(?:{_CHARACTER}|[/?])*)?(?:\#(?:{_CHARACTER}|[/?])*)?",
    re.ASCII,
)
_INT64 = range(-(2**63), 2**63)
_LEAP_SECOND = re.compile(r"(?<=[T ]\d\d:\d\d:)60", re.ASCII)

# Envelope field -> CloudEvents attribute, for optional strings.
OPTIONAL = {
    "subject": "subject",
    "key": "partitionkey",
    "correlation_id": "correlationid",
    "causation_id": "causationid",
    "trace_parent": "traceparent",
    "trace_state": "tracestate",
}
RESERVED = frozenset(
    {"specversion", "id", "source", "type", "time", "data", "datacontenttype", "dataversion"}
    | set(OPTIONAL.values())
    | {"replyto", "inreplyto", "expirytime", "replygroup"}  # see outbox.message.requests
    | {"acknowledgeto", "acknowledgegroups"}  # see outbox.message.acknowledgements
)


def to_headers(envelope: Envelope) -> dict[str, str]:
    """Return the message headers of `envelope`."""
    headers = {
        "ce-specversion": SPEC_VERSION,
        "ce-id": envelope.id,
        "ce-source": envelope.source,
        "ce-type": envelope.type,
        "ce-dataversion": str(envelope.version),
    }
    if envelope.time is not None:
        headers["ce-time"] = format_time(envelope.time)
    for field, attribute in OPTIONAL.items():
        value = getattr(envelope, field)
        if value is not None:
            headers[PREFIX + attribute] = value
    for name, extension in envelope.attributes.items():
        headers[PREFIX + name] = canonical(extension)
    return headers


def from_message(
    headers: Mapping[str, object], content_type: str | None, body: bytes, *, topic: str = ""
) -> Envelope:
    """Return the envelope of a message that was received in binary mode.

    Raises UndecodableMessage, naming the attribute, if it is no CloudEvent.
    """
    attributes, unusable = _attributes(headers)
    try:
        content_type = _text("", content_type)
    except Unusable:
        content_type = ""
    if content_type.lower() == _UNKNOWN_CONTENT:
        content_type = ""
    return envelope_of(attributes, unusable, body, content_type=content_type, topic=topic)


def envelope_of(
    attributes: dict[str, str],
    unusable: Mapping[str, str],
    data: bytes,
    *,
    content_type: str = "",
    topic: str,
) -> Envelope:
    """Return the envelope of an event; `unusable` says of further attributes what is amiss.

    Raises UndecodableMessage if it is no CloudEvent. `attributes` is used up.
    """
    if attributes.pop("specversion", None) != SPEC_VERSION:
        raise UndecodableMessage("not a CloudEvent: its specversion is not '1.0'")
    required = {name: _required(attributes, unusable, name) for name in _REQUIRED}
    time = _parse_time(attributes.get("time", ""))
    if time is not None or not attributes.get("time"):
        attributes.pop("time", None)
    version = _parse_version(attributes.get("dataversion", ""))
    if version is not None or not attributes.get("dataversion"):
        attributes.pop("dataversion", None)
    declared_content = attributes.pop("datacontenttype", "")
    # None of them may be empty; an empty one says as little as a missing one.
    optional = {field: attributes.pop(name, "") or None for field, name in OPTIONAL.items()}
    return Envelope(
        **required,
        **optional,  # type: ignore[arg-type]
        data=data,
        content_type=content_type or declared_content or JSON,
        version=version or 1,
        topic=topic,
        time=time,
        attributes=attributes,
    )


def is_attribute(header: object) -> bool:
    """Tell whether a header stands for a CloudEvents attribute."""
    return isinstance(header, str) and header.lower().startswith(_READ_PREFIXES)


def as_text(header: str, value: object) -> object:
    """Return the value of an attribute's header as text; as it is if it has no such form."""
    try:
        return _text(_name(header) or "", value)
    except Unusable:
        return value


def bounded(text: str) -> str:
    """Return what stands for an attribute where there is room for MAX_ATTRIBUTE characters.

    That is itself if it fits, else its beginning and a digest of all of it: two that differ stay
    two.
    """
    if len(text) <= MAX_ATTRIBUTE:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{text[: MAX_ATTRIBUTE - len(digest) - 1]}~{digest}"


def canonical(value: str | int | bool) -> str:
    """Return an attribute's value in the canonical string form of CloudEvents."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def flaw(text: str, limit: int) -> str | None:
    """Return what keeps `text` from being the value of an attribute, or None."""
    if len(text) > limit:
        return f"is {len(text):,} characters long, at most {limit:,} are allowed"
    return forbidden(text)


def forbidden(text: str) -> str | None:
    """Return what keeps `text` from being a string of CloudEvents, or None."""
    if found := _FORBIDDEN.search(text):
        return f"contains the character U+{ord(found[0]):04X}, which CloudEvents does not allow"
    return None


def is_uri_reference(text: str) -> bool:
    """Tell whether `text` is a URI reference, as the source of a CloudEvent has to be."""
    return _URI_REFERENCE.fullmatch(text) is not None


def format_time(time: datetime) -> str:
    """Return a UTC timestamp in RFC 3339."""
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    # Without its zone: to write that out takes as long as all the rest.
    return datetime.combine(time, time.time()).isoformat() + "Z"


class Unusable(ValueError):
    """A value that no attribute can have; the text says why, after its name."""


def read_time(value: object) -> datetime | None:
    """Return the time that an attribute says; None if it is no such time."""
    return _parse_time(value) if isinstance(value, str) else None


def _attributes(headers: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the attributes in headers, and of those that cannot be used what is amiss."""
    attributes: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for header, value in headers.items():
        name = _name(header)
        if name is None or value is None:
            continue
        try:
            text = _text(name, value)
        except Unusable as exc:
            unusable[name] = str(exc)
            continue
        if attributes.setdefault(name, text) != text:
            # Every reader could take another one.
            unusable[name] = "is given twice, with different values"
    for name in unusable:
        attributes.pop(name, None)
    return attributes, unusable


def _name(header: object) -> str | None:
    """Return the name of the attribute that a header stands for, or None."""
    if not isinstance(header, str):
        return None
    # Most messages have the same headers; what anybody sends must not fill the memory.
    return _cached_name(header) if len(header) <= MAX_CACHED else _name_in(header)


def _name_in(header: str) -> str | None:
    lowered = header.lower()
    for prefix in _READ_PREFIXES:
        if lowered.startswith(prefix):
            name = lowered[len(prefix) :]
            return name if _READ_NAME.fullmatch(name) else None
    return None


_cached_name = lru_cache(maxsize=1024)(_name_in)


def _text_of(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        if name in _REQUIRED:
            raise Unusable("is not UTF-8") from None
        return base64.b64encode(value).decode()


def _text(name: str, value: object) -> str:
    """Return the value of an attribute in its canonical string form; raise Unusable if none."""
    if type(value) is str:
        pass  # as nearly all are
    elif isinstance(value, int) and value in _INT64:
        value = canonical(value)
    elif isinstance(value, datetime):
        value = format_time(value if value.tzinfo else value.replace(tzinfo=UTC))
    elif isinstance(value, bytes):
        value = _text_of(name, value)
    elif isinstance(value, float | Decimal) and name not in _REQUIRED:
        value = str(value)
    if not isinstance(value, str):
        raise Unusable(f"is a {type(value).__name__}, not a string")
    if problem := forbidden(value):
        raise Unusable(problem)
    return value


def _required(attributes: dict[str, str], unusable: Mapping[str, str], name: str) -> str:
    if name in unusable:
        raise UndecodableMessage(f"attribute {name} {unusable[name]}")
    value = attributes.pop(name, "")
    if not value:
        raise UndecodableMessage(f"required attribute {name} is missing or empty")
    return value


def _parse_version(value: str) -> int | None:
    """Return a version as we write it; another's is of a meaning that we do not know."""
    # Nine digits fit the column; int() of a huge string would be slow or refused.
    if not value.isascii() or not value.isdecimal() or len(value) > 9 or int(value) < 1:
        return None
    return int(value)


def _parse_time(value: str) -> datetime | None:
    """Return a time in RFC 3339, or in the milliseconds of AMQP 1.0; None if it is neither."""
    try:
        if value.isdecimal() and value.isascii():
            return datetime.fromtimestamp(int(value) / 1000, tz=UTC)
        # A leap second, which Python does not know, is the first of the next minute: as in POSIX.
        text, leap = _LEAP_SECOND.subn("59", value.upper())
        time = datetime.fromisoformat(text) + timedelta(seconds=leap)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None
