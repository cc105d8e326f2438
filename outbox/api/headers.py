"""What requests say in headers: how long to wait, what was seen, and which request is the same."""

import re
from collections.abc import Mapping

from django.utils.http import parse_etags
from rest_framework.exceptions import ValidationError

KEY = "Idempotency-Key"
LONGEST_KEY = 200
"""Characters of an idempotency key."""

_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-+\--~](?:[ !#-+\--~]*[!#-+\--~])?")
_ESCAPED = re.compile(r'\\(["\\])')
# RFC 7240: token [ "=" word ] *( ";" parameter ), where a word is a token or a quoted string.
_PREFERENCE = re.compile(
    r"""\s*(?P<name>[\w!#$%&'*+.^`|~-]+)\s*
    (?:=\s*(?:"(?P<text>(?:[^"\\]|\\.)*)"|(?P<word>[\w!#$%&'*+.^`|~-]*)))?
    (?P<parameters>(?:[^,"]|"(?:[^"\\]|\\.)*")*)(?:,|$)""",
    re.ASCII | re.VERBOSE,
)
MOST_READ = 1_000
"""Characters of a Prefer header that are read."""


def idempotency_key(headers: Mapping[str, str]) -> str:
    """Return the Idempotency-Key of a request, "" if it has none.

    The draft wants a string in quotation marks (RFC 8941); without them it is taken as it stands,
    as many clients send it. Raises ValidationError for what is neither, is blank or too long.
    """
    given = headers.get(KEY)
    if given is None:
        return ""
    text = given.strip(" \t")
    if match := _STRING.fullmatch(text):
        key = _ESCAPED.sub(r"\1", match[1])
    else:
        key = text if _BARE.fullmatch(text) else ""
    if not key.strip() or len(key) > LONGEST_KEY:
        raise ValidationError(
            {KEY: [f'Give one string, such as "8e03978e", of 1 to {LONGEST_KEY} characters.']}
        )
    return key


def preferences(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what a request prefers (RFC 7240), by name in small letters, the first of each.

    What cannot be read is left out: a preference is no demand.
    """
    text = headers.get("Prefer", "")[:MOST_READ]
    found: dict[str, str] = {}
    place = 0
    while place < len(text):
        match = _PREFERENCE.match(text, place)
        if match is None:  # go on behind the next comma
            place = (text.find(",", place) + 1) or len(text)
            continue
        value = re.sub(r"\\(.)", r"\1", match["text"]) if match["text"] else match["word"] or ""
        found.setdefault(match["name"].lower(), value)
        place = match.end()
    return found


def seconds(value: str, most: int) -> int:
    """Return a number of seconds, at most so many; 0 for what is none."""
    return min(int(value[:9]), most) if re.fullmatch(r"[0-9]+", value, re.ASCII) else 0


def has_seen(headers: Mapping[str, str], etag: str) -> bool:
    """Tell whether a request has seen what has this ETag (If-None-Match, RFC 9110)."""
    seen = [each.removeprefix("W/") for each in parse_etags(headers.get("If-None-Match", ""))]
    return "*" in seen or etag in seen
