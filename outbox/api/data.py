"""What a message carries, for the API: read whole or not at all, and without its secrets."""

import json
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from outbox.admin_support.payload import READ, as_text, mentioned, redacted
from outbox.conf import outbox_settings
from outbox.exceptions import UndecodableMessage
from outbox.message.codec import is_json
from outbox.message.kinds import kind_of

FORMS = ("json", "text", "base64", "hidden", "too_large")
"""What `data` is: a value, a text, bytes; or null, for it names secrets or is longer than READ."""

DEPTH = 100
"""How deeply JSON may be nested to be given as a value."""


def present(data: bytes, content_type: str) -> dict[str, Any]:
    """Return data in the first of FORMS that it fits, masked as the pages of the admin do it."""
    about = {"content_type": content_type, "size": str(len(data))}
    form, value = _presented(data, content_type, outbox_settings().REDACT)
    return about | {"form": form, "data": value}


def present_json(text: str) -> Any:
    """Return a value that is stored as JSON, masked; None if it is none."""
    try:
        return _value(json.loads(text), outbox_settings().REDACT)
    except (TypeError, ValueError, RecursionError):
        return None


def _presented(data: bytes, content_type: str, secrets: Iterable[str]) -> tuple[str, Any]:
    if len(data) > READ:
        return "too_large", None
    try:
        if readable := kind_of(content_type).readable:
            return "json", _value(readable(data), secrets)
        if is_json(content_type or "application/json"):
            return "json", _value(json.loads(data), secrets)
    except (TypeError, ValueError, RecursionError, UndecodableMessage):
        pass  # shown as the bytes that it is
    # Only the keys of JSON can be told apart from their values.
    if mentioned(data, secrets):
        return "hidden", None
    if (text := as_text(data, content_type)) is not None:
        return "text", text
    return "base64", b64encode(data).decode()


def _value(value: Any, secrets: Iterable[str]) -> Any:
    """Return a value masked; raise ValueError or TypeError if JSON cannot have it."""
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            masked = redacted(value, secrets)
            json.dumps(masked, allow_nan=False)  # NaN, say, is none of JSON's
            return masked
    raise ValueError("nested too deeply")
