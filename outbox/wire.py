"""CloudEvents 1.0 in binary mode over AMQP 0-9-1: attributes as `ce-` headers, data as the body.

The RabbitMQ binding of the CloudEvents SDK: every header a string, `datacontenttype` in the
content-type property. Headers with the prefixes of the AMQP 1.0 binding are read as well.
Own extensions: `partitionkey` (key), `dataversion` (version), `correlationid`, `causationid`.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from outbox.envelope import JSON, Envelope
from outbox.exceptions import UndecodableMessage

SPEC_VERSION = "1.0"
PREFIX = "ce-"
# What kombu writes for a message that was published without a content type.
_UNKNOWN_CONTENT = "application/data"
_READ_PREFIXES = (PREFIX, "cloudevents:", "cloudevents_")
ATTRIBUTE_NAME = re.compile(r"[a-z0-9]{1,20}")
MAX_ATTRIBUTE = 255
MAX_TRACE_STATE = 1024
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
    """Return the envelope of a received message.

    Raises UndecodableMessage, naming the attribute, for anything but a valid CloudEvent.
    """
    attributes = _attributes(headers)
    if attributes.pop("specversion", None) != SPEC_VERSION:
        raise UndecodableMessage("not a CloudEvent: the header ce-specversion is not '1.0'")
    required = {name: _required(attributes, name) for name in ("id", "source", "type")}
    time = attributes.pop("time", None)
    version = attributes.pop("dataversion", "1")
    declared_content = attributes.pop("datacontenttype", "")
    if isinstance(content_type, str) and content_type.lower() == _UNKNOWN_CONTENT:
        content_type = None
    # None of them may be empty; an empty one says as little as a missing one.
    optional = {field: attributes.pop(name, "") or None for field, name in OPTIONAL.items()}
    return Envelope(
        **required,
        **optional,  # type: ignore[arg-type]
        data=body,
        content_type=_text("datacontenttype", content_type or declared_content or JSON),
        version=_parse_version(version),
        topic=topic,
        time=_parse_time(time) if time is not None else None,
        attributes=attributes,
    )


def is_attribute(header: object) -> bool:
    """Tell whether a header stands for a CloudEvents attribute."""
    return isinstance(header, str) and header.lower().startswith(_READ_PREFIXES)


def canonical(value: str | int | bool) -> str:
    """Return an attribute's value in the canonical string form of CloudEvents."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def flaw(text: str, limit: int) -> str | None:
    """Return what keeps `text` from being the value of an attribute, or None."""
    if len(text) > limit:
        return f"is {len(text):,} characters long, at most {limit:,} are allowed"
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


def _attributes(headers: Mapping[str, object]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for header, value in headers.items():
        if not isinstance(header, str):
            continue
        lowered = header.lower()
        prefix = next((p for p in _READ_PREFIXES if lowered.startswith(p)), None)
        if prefix is None:
            continue
        name = lowered[len(prefix) :]
        if not ATTRIBUTE_NAME.fullmatch(name):
            raise UndecodableMessage(f"{name[:40]!r} is not a CloudEvents attribute name")
        text = _text(name, value)
        if attributes.setdefault(name, text) != text:
            raise UndecodableMessage(f"attribute {name} is given twice, with different values")
    return attributes


def _text(name: str, value: object) -> str:
    if isinstance(value, int) and value in _INT64:
        value = canonical(value)
    elif isinstance(value, datetime):
        value = format_time(value if value.tzinfo else value.replace(tzinfo=UTC))
    elif isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise UndecodableMessage(f"attribute {name} is not UTF-8") from None
    if not isinstance(value, str):
        raise UndecodableMessage(f"attribute {name} is a {type(value).__name__}, not a string")
    if problem := flaw(value, MAX_TRACE_STATE if name == "tracestate" else MAX_ATTRIBUTE):
        raise UndecodableMessage(f"attribute {name} {problem}")
    return value


def _required(attributes: dict[str, str], name: str) -> str:
    value = attributes.pop(name, "")
    if not value:
        raise UndecodableMessage(f"required attribute {name} is missing or empty")
    return value


def _parse_version(value: str) -> int:
    # Nine digits fit the column; int() of a huge string would be slow or refused.
    if not value.isascii() or not value.isdecimal() or len(value) > 9 or int(value) < 1:
        raise UndecodableMessage("attribute dataversion is not a version number")
    return int(value)


def _parse_time(value: str) -> datetime:
    if value.isdecimal() and value.isascii():  # AMQP 1.0 timestamp: milliseconds
        try:
            return datetime.fromtimestamp(int(value) / 1000, tz=UTC)
        except (OverflowError, ValueError, OSError):
            raise UndecodableMessage("attribute time is out of range") from None
    try:
        time = datetime.fromisoformat(value.upper())
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UndecodableMessage("attribute time is not RFC 3339") from None
