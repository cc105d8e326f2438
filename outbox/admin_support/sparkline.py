"""A drawing of when things happened, as small as a word."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox.admin_support.html import span
from outbox.nouns import grouped

BARS = 24
SPANS = [
    *(timedelta(hours=hours) for hours in (1, 6, 24)),
    *(timedelta(days=days) for days in (7, 30, 90, 365)),
]
_WIDTH, _GAP, _HEIGHT = 5, 1, 24


def window(oldest: datetime, now: datetime) -> timedelta:
    """Return the shortest usual length of time that reaches back so far, or the longest one."""
    return next((length for length in SPANS if now - oldest <= length), SPANS[-1])


def counts(
    moments: Iterable[datetime], length: timedelta, now: datetime, bars: int = BARS
) -> list[int]:
    """Count moments in equal parts of a time that ends now; what is older is in the first part."""
    found = [0] * bars
    for moment in moments:
        place = bars - 1 - int((now - moment) / length * bars)
        found[max(0, min(bars - 1, place))] += 1
    return found


def sparkline(found: Sequence[int], length: timedelta) -> SafeString:
    """Return bars for counts, the highest as high as there is room for."""
    most = max(found, default=0) or 1
    bars = format_html_join(
        "",
        '<rect x="{}" y="{}" width="{}" height="{}"/>',
        (
            (place * (_WIDTH + _GAP), _HEIGHT - height, _WIDTH, height)
            for place, count in enumerate(found)
            if (height := max(2, round(_HEIGHT * count / most)) if count else 0)
        ),
    )
    label = _("At most %(most)s in %(part)s, of the last %(span)s") % {
        "most": grouped(max(found, default=0)),
        "part": span(length / len(found)),
        "span": span(length),
    }
    width = len(found) * (_WIDTH + _GAP) - _GAP
    return format_html(
        '<svg class="outbox-spark" viewBox="0 0 {} {}" width="{}" height="{}" role="img" '
        'aria-label="{}"><title>{}</title>'
        '<path class="outbox-spark-ground" d="M0 {}.5h{}"/>{}</svg>',
        *(width, _HEIGHT + 1, width, _HEIGHT + 1, label, label, _HEIGHT, width),
        bars,
    )
