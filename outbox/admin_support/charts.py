"""Charts as SVG, drawn here: no script, no style, colours by classes of outbox/pages.css.

What is drawn stretches to the room there is; what is written beside it is HTML and does not.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from outbox.admin_support import html
from outbox.admin_support.blocks import Panel, Picture
from outbox.admin_support.html import Content
from outbox.nouns import grouped

HEIGHT = 100.0
WIDE = 10
"""Of a step, in units of the drawing."""
COLOURS = 6
TICKS = 4
"""Parts into which the times below a chart divide it."""

Steps = Sequence[tuple[datetime, datetime]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A number for each step, None where there is none; drawn as a line, or as an area."""

    label: Content
    values: Sequence[float | None]
    area: bool = False


def picture(
    *,
    title: Content,
    steps: Steps,
    series: Sequence[Series],
    shown: Callable[[float], str],
    top: Callable[[float], float] | None = None,
    note: Content = "",
) -> Picture:
    """Return a chart of some series, with its table; `shown` puts a number into words.

    `top` rounds the highest number up to where the scale ends.
    """
    return Picture(
        title=title,
        svg=_chart(title, steps, series, shown, top or rounded_up),
        table=Panel(
            title=title,
            headings=(_("From"), *(each.label for each in series)),
            rows=[
                [html.stamp(start), *(_word(each.values[n], shown) for each in series)]
                for n, (start, _end) in enumerate(steps)
            ],
        ),
        note=note,
    )


def rounded_up(highest: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, 50 and so on; 1 for nothing."""
    if highest <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(power * each for each in (1, 2, 5, 10) if power * each >= highest)


SPANS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 10.0, 20.0, 60.0),
    *(120.0, 240.0, 600.0, 1200.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0, 172800.0),
)


def span_rounded_up(seconds: float) -> float:
    """Return the next length of time that people count in, in seconds."""
    days = math.ceil(seconds / SPANS[-1]) * SPANS[-1]
    return next((each for each in SPANS if each >= seconds), days)


def seconds_shown(seconds: float) -> str:
    """Return a number of seconds in words, without a fraction."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return html.span(timedelta(seconds=seconds))


def count_shown(count: float) -> str:
    """Return a count in digits."""
    return grouped(count)


def _chart(
    title: Content,
    steps: Steps,
    series: Sequence[Series],
    shown: Callable[[float], str],
    top: Callable[[float], float],
) -> SafeString:
    highest = max((v for each in series for v in each.values if v is not None), default=0.0)
    scale = top(highest)
    return format_html(
        '<div class="outbox-chart"><ul class="outbox-legend">{}</ul>'
        '<div class="outbox-scale" aria-hidden="true">{}</div>'
        '<svg role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">'
        "<desc>{}</desc>{}{}{}</svg>"
        '<div class="outbox-times" aria-hidden="true">{}</div></div>',
        format_html_join(
            "",
            '<li class="outbox-series-{}">{}</li>',
            ((n % COLOURS, each.label) for n, each in enumerate(series)),
        ),
        format_html_join("", "<span>{}</span>", ((shown(scale * n / 2),) for n in (2, 1, 0))),
        title,
        len(steps) * WIDE,
        f"{HEIGHT:.0f}",
        " ".join(_described(each, shown) for each in series),
        format_html_join(
            "",
            '<path class="outbox-grid" d="M0 {}H{}"/>',
            ((f"{HEIGHT * n / 2:.0f}", len(steps) * WIDE) for n in (0, 1, 2)),
        ),
        format_html_join("", "{}", ((_drawn(n, each, scale),) for n, each in enumerate(series))),
        format_html_join("", "{}", ((_tip(n, steps, series, shown),) for n in range(len(steps)))),
        format_html_join("", "<span>{}</span>", ((each,) for each in _times(steps))),
    )


def _described(series: Series, shown: Callable[[float], str]) -> str:
    known = [value for value in series.values if value is not None]
    if not known:
        return _("%(label)s: nothing.") % {"label": series.label}
    return _("%(label)s: from %(lowest)s to %(highest)s, %(last)s last.") % {
        "label": series.label,
        "lowest": shown(min(known)),
        "highest": shown(max(known)),
        "last": shown(known[-1]),
    }


def _drawn(number: int, series: Series, scale: float) -> SafeString:
    """Return a series as steps; where there is no number, there is a gap."""
    heights = [None if v is None else HEIGHT - HEIGHT * min(v / scale, 1) for v in series.values]
    line = format_html(
        '<path class="outbox-series-{} outbox-stroke" d="{}"/>', number % COLOURS, _line(heights)
    )
    if not series.area:
        return line
    bars = "".join(
        f"M{n * WIDE} {HEIGHT:.0f}V{y:.2f}h{WIDE}V{HEIGHT:.0f}z"
        for n, y in enumerate(heights)
        if y is not None
    )
    area = '<path class="outbox-series-{} outbox-area" d="{}"/>{}'
    return format_html(area, number % COLOURS, bars, line)


def _line(heights: Sequence[float | None]) -> str:
    parts, goes_on = [], False
    for n, y in enumerate(heights):
        if y is not None:
            parts.append(f"{'V' if goes_on else f'M{n * WIDE} '}{y:.2f}H{(n + 1) * WIDE}")
        goes_on = y is not None
    return "".join(parts)


def _tip(
    number: int, steps: Steps, series: Sequence[Series], shown: Callable[[float], str]
) -> SafeString:
    """Return what a step shows when it is pointed at."""
    start, end = (timezone.localtime(each) for each in steps[number])
    lines = [f"{start:%Y-%m-%d %H:%M} - {end:%H:%M}"]
    lines += [f"{each.label}: {_word(each.values[number], shown)}" for each in series]
    return format_html(
        '<rect class="outbox-tip" x="{}" y="0" width="{}" height="{}"><title>{}</title></rect>',
        number * WIDE,
        WIDE,
        f"{HEIGHT:.0f}",
        "\n".join(lines),
    )


def _times(steps: Steps) -> list[str]:
    """Return the times to be written below: hours for a day or so, else dates."""
    if not steps:
        return []
    edges = [steps[0][0], *(end for _, end in steps)]
    days = edges[-1] - edges[0] > timedelta(days=2)
    places = [round((len(edges) - 1) * n / TICKS) for n in range(TICKS + 1)]
    found = [timezone.localtime(edges[place]) for place in places]
    # Translators: day and month, in the letters of Django's template filter "date".
    day = pgettext("format of a date", "j M")
    return [date_format(each, day if days else "H:i") for each in found]


def _word(value: float | None, shown: Callable[[float], str]) -> str:
    return html.DASH if value is None else shown(value)
