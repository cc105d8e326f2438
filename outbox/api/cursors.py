"""Opaque cursors: where a page stands, and in which list.

A page is found by the primary key of the row beside it (outbox.admin_support.keyset), so it stays
the same while rows come and go, and nothing is ever counted. A cursor belongs to one list with one
filter: with another it would silently skip rows, and is refused.
"""

import binascii
import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from rest_framework.exceptions import ValidationError

from outbox.admin_support.keyset import Place

_SPAN = re.compile(r"([0-9]{1,18})-([0-9]{1,18})-([0-9]{1,17})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def mark(*parts: str) -> str:
    """Return a short name of a list: of the resource and its filter."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:12]


def encode(place: Place | None, of: str) -> str | None:
    """Return the cursor of a place in a list; None if there is no such place."""
    if place is None:
        return None
    return urlsafe_b64encode(f"{place}.{of}".encode()).decode().rstrip("=")


class Span(NamedTuple):
    """What is left to be done: beyond a primary key, until another, as it was at a time."""

    after: int
    until: int
    started: datetime


def encode_span(span: Span, of: str) -> str:
    """Return the cursor of what is left to be done."""
    started = (span.started - _EPOCH) // timedelta(microseconds=1)
    text = f"{span.after}-{span.until}-{started}.{of}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_span(cursor: str, of: str) -> Span:
    """Return what encode_span() was given; raise ValidationError if it was nothing like it."""
    name, _, found = _decoded(cursor).partition(".")
    match = _SPAN.fullmatch(name)
    if match is None or found != of:
        raise ValidationError(
            {"step": ["This is no step of this action with this filter. Begin without one."]}
        )
    started = _EPOCH + timedelta(microseconds=int(match[3]))
    return Span(int(match[1]), int(match[2]), started)


def _decoded(cursor: str) -> str:
    try:
        return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (ValueError, binascii.Error):
        return ""


def decode(cursor: str, of: str) -> Place:
    """Return the place that a cursor names; raise ValidationError if it names none of this list."""
    name, _, found = _decoded(cursor).partition(".")
    place = Place.parse(name)
    if place is None:
        raise ValidationError({"cursor": ["This is no cursor. Take one from an answer."]})
    if found != of:
        raise ValidationError({"cursor": ["This cursor belongs to another list or filter."]})
    return place
