"""Where in the code a message comes from: one short attribute, never with anybody's data in it."""

import re
from collections.abc import Mapping
from typing import Any

ATTRIBUTE = "origin"
MAX_ORIGIN = 120
"""Characters; what is longer is cut."""

_KINDS = ("http", "admin", "handler", "task", "command")
_ORIGIN = re.compile(rf"(?:{'|'.join(_KINDS)}):[ -~]+")


def origin_of(attributes: Mapping[str, Any]) -> str | None:
    """Return what a message says of its origin; None if it says nothing in our form."""
    found = attributes.get(ATTRIBUTE)
    if isinstance(found, str) and len(found) <= MAX_ORIGIN and _ORIGIN.fullmatch(found):
        return found
    return None


def made(kind: str, name: str) -> str:
    """Return an origin; what stands for it in ASCII where a name has other letters."""
    text = name.encode("ascii", "backslashreplace").decode()
    return f"{kind}:{' '.join(text.split())}"[:MAX_ORIGIN]
