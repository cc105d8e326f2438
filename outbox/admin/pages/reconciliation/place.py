"""What of the reconciliation is looked at, as the address of the page says it."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from django.http import HttpRequest
from django.utils.http import urlencode

from outbox.extensions.pages import page_url
from outbox.statements.buckets import MAX_TIME

PAGE = "reconciliation"
"""The name of the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A group, and what of it is looked at.

    `day` is the last day of a calendar, None for today; `hour` and `bucket` begin at a time in
    milliseconds.
    """

    url: str
    group: str = ""
    day: date | None = None
    hour: int | None = None
    bucket: int | None = None

    @classmethod
    def asked(cls, request: HttpRequest, group: str) -> "Place":
        """Return what a request asks for; what is no time counts as not asked for."""
        get = request.GET
        return cls(
            url=page_url(request, PAGE, f"{group}/") if group else page_url(request, PAGE),
            group=group,
            day=_day(get.get("day", "")),
            hour=_time(get.get("hour", "")),
            bucket=_time(get.get("bucket", "")),
        )

    def address(self, **changes: Any) -> str:
        """Return the address of another place in the same group."""
        place = replace(self, **changes)
        pairs = [("day", place.day), ("hour", place.hour), ("bucket", place.bucket)]
        query = urlencode([(name, str(value)) for name, value in pairs if value is not None])
        return f"{place.url}?{query}" if query else place.url


def _time(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        return None
    return int(text) if int(text) < MAX_TIME // 2 else None


def _day(text: str) -> date | None:
    try:
        found = datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no zone
    except ValueError:
        return None
    return found if 1970 < found.year < 9000 else None
