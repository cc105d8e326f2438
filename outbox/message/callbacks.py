"""What is POSTed to a URL when a request has ended: a kind of message of its own in the log.

Only a relay whose broker carries callbacks sends them; all others pass them by. The URL is not in
the message: it may hold a token, and stays in the row of the request, which `subject` names.
"""

import json
import re
from typing import Any

from outbox.exceptions import UndecodableMessage

CONTENT_TYPE = "application/vnd.django-outbox.callback+json"
CALLBACK_TYPE = "outbox.request.settled"
_PREFIX = "outbox.callbacks."
_NO_WORD = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_TOPIC = 255


def topic_of(host: str) -> str:
    """Return the topic of callbacks to a host; what no topic can have in its name becomes '-'."""
    words = (_NO_WORD.sub("-", word) or "-" for word in host.lower().split("."))
    return (_PREFIX + ".".join(words))[:_MAX_TOPIC]


def readable(data: bytes) -> Any:
    """Return what people are shown of a callback; raise UndecodableMessage if it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise UndecodableMessage("a callback that is not JSON") from None
