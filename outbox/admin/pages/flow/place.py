"""What of the flow is looked at, as the address of the page says it."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpRequest
from django.utils.http import urlencode

OPENED = 20
"""Folds that an address can have opened."""
_KEY = "key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A part of a conversation, of the messages of a key (`by_key`), or of all that flows.

    `of` names the conversation or the key. `at`, `start` and `unfold` are those of an outline;
    `before` is the position in the log that messages of a key come before, 0 for the newest.
    """

    url: str
    of: str = ""
    by_key: bool = False
    at: str = ""
    start: int = 0
    unfold: Collection[str] = ()
    before: int = 0

    @classmethod
    def asked(cls, request: HttpRequest, url: str) -> "Place":
        """Return what a request asks for; what is no number counts as 0."""
        get = request.GET
        return cls(
            url=url,
            of=get.get("of", "").strip(),
            by_key=get.get("as") == _KEY,
            at=get.get("at", ""),
            start=_number(get.get("start", "")),
            unfold=get.getlist("unfold")[:OPENED],
            before=_number(get.get("before", "")),
        )

    def address(self, **changes: Any) -> str:
        """Return the address of another place of the same kind."""
        place = replace(self, **changes)
        pairs = [("of", place.of), ("as", _KEY if place.by_key else ""), ("at", place.at)]
        pairs += [("start", str(place.start or "")), ("before", str(place.before or ""))]
        pairs += [("unfold", each) for each in place.unfold]
        query = urlencode([(name, value) for name, value in pairs if value])
        return f"{place.url}?{query}" if query else place.url

    def opened(self, name: str) -> str:
        """Return the address with one more fold opened, of those named by a message."""
        return f"{self.address(unfold=[*self.unfold, name][-OPENED:])}"

    def closed(self, name: str) -> str:
        """Return the address with that fold closed again."""
        return self.address(unfold=[each for each in self.unfold if each != name], start=0)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0
