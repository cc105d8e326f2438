"""What a task has returned, kept with its receipt: a second run has the same answer."""

from typing import Any

from kombu.utils import json

from outbox.error_text import storable

MAX_RESULT = 64 * 1024
"""Characters of JSON that are kept of a result."""
NOT_KEPT = ""


class NotKept(Exception):
    """The receipt does not say what was returned."""


def write(value: Any) -> str | None:
    """Return a result as a receipt keeps it: None for None, which takes no space.

    Of what is not JSON, or longer than MAX_RESULT, is kept that there was something.
    """
    if value is None:
        return None
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return NOT_KEPT
    # NUL and lone surrogates are escaped in it, so it can be stored as it is.
    return text if len(text) <= MAX_RESULT and storable(text) == text else NOT_KEPT


def read(text: str | None) -> Any:
    """Return what write() was given; raise NotKept if that is not known."""
    if text is None:
        return None
    if text == NOT_KEPT:
        raise NotKept
    return json.loads(text)
