"""What the relay's sections share: how far each relay is, read once for a page; and in words."""

from datetime import timedelta

from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox.admin_support import html
from outbox.admin_support.html import Content
from outbox.admin_support.once import once
from outbox.nouns import grouped
from relay.reports.gauges import bounded
from relay.reports.status import COUNTED, LaneStatus

BEHIND_SECONDS = 60.0
"""Age of the oldest pending message from which on somebody should look."""


def statuses(request: HttpRequest, using: str) -> list[LaneStatus]:
    """Return how far each relay is in each lane, as metrics have it."""
    return once(request, ("relay.lanes", using), lambda: bounded(using))


def state(found: list[LaneStatus]) -> SafeString:
    """Return in one badge how a relay, or a lane, is."""
    if not any(each.configured for each in found):
        return html.badge(_("not in RELAYS"), "skipped")
    if any(each.moved for each in found):
        return html.badge(_("other database"), "dead")
    if any(each.stalled for each in found):
        return html.badge(_("stands still"), "dead")
    if oldest(found) > BEHIND_SECONDS:
        return html.badge(_("behind"), "pending")
    if all(each.last_checkpoint is None for each in found):
        return html.badge(_("nothing published yet"), "skipped")
    return html.badge(_("well"), "published")


def oldest(found: list[LaneStatus]) -> float:
    """Return the age of the oldest pending message in seconds."""
    return max((each.oldest_pending or 0.0 for each in found), default=0.0)


def pending(found: list[LaneStatus]) -> str:
    """Return how many messages are pending; at least so many, where they are not all counted."""
    if any(each.backlog is None for each in found):
        return "?"
    count = sum(min(each.backlog or 0, COUNTED) for each in found)
    return f"{grouped(count)}{'+' if any(each.more for each in found) else ''}"


def age(seconds: float | None) -> Content:
    """Return how long ago something was."""
    if seconds is None:
        return html.DASH
    return _("%(span)s ago") % {"span": html.span(timedelta(seconds=round(seconds)))}


def length(seconds: float) -> Content:
    """Return a number of seconds in words, "-" for none."""
    return html.span(timedelta(seconds=seconds)) if seconds else html.DASH
