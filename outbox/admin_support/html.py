"""Small pieces of HTML, with classes from outbox/admin.css instead of styles."""

from datetime import datetime, timedelta

from django.contrib.auth import get_permission_codename
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from outbox.database import instants
from outbox.filtering.grammar import quoted
from outbox.nouns import grouped

Content = str | Promise
"""Text, HTML if it is a SafeString, or a translation of either."""
DASH = "-"
HOVERED = 600
"""Characters of a text that a list has at all."""


def badge(text: object, kind: str) -> SafeString:
    """Return a small coloured label; `kind` is a state, whose colour outbox/admin.css has."""
    return format_html('<span class="outbox-badge outbox-badge-{}">{}</span>', kind, text)


def code(text: object) -> SafeString:
    """Return an identifier in a fixed-width font, in one line."""
    return format_html('<code class="outbox-code">{}</code>', text)


def ident(text: object) -> SafeString:
    """Return an identifier for a list: its end in one line, all of it on hover and when copied."""
    return format_html('<code class="outbox-id" title="{}"><bdi>{}</bdi></code>', text, text)


def line(text: object, css: str = "outbox-line") -> SafeString:
    """Return text for a list: as much as there is room for in one line, more on hover."""
    start = Truncator(str(text)).chars(HOVERED)
    return format_html('<span class="{}" title="{}">{}</span>', css, start, start)


def name(text: object, note: Content = "") -> SafeString:
    """Return a dotted name for a list, of which the end tells most; and a note, less loud."""
    shown = format_html('<span class="outbox-name" title="{}"><bdi>{}</bdi></span>', text, text)
    if not note:
        return shown
    text = '<span class="outbox-named">{} <small class="outbox-quiet">{}</small></span>'
    return format_html(text, shown, note)


def above(first: Content, second: Content) -> SafeString:
    """Return what a row is about, with something less important below it."""
    return format_html('{}<small class="outbox-below outbox-quiet">{}</small>', first, second)


def block(text: str, note: str = "") -> SafeString:
    """Return preformatted text, with a note below it."""
    return _noted(format_html("<pre>{}</pre>", text), note)


def json_block(folded: SafeString, note: str = "") -> SafeString:
    """Return JSON of which parts are folded, which no <pre> may have in it, with a note below."""
    return _noted(format_html('<div class="outbox-json">{}</div>', folded), note)


def detail_link(request: HttpRequest, row: Model, text: Content) -> Content:
    """Return a link to a row's page, or just the text if there is none for this user."""
    return _link(request, type(row), "change", text, (row.pk,))


def search_link(request: HttpRequest, model: type[Model], term: str, text: Content) -> Content:
    """Return a link to the rows of a model that a search for `term` finds."""
    return _link(request, model, "changelist", text, (), f"?{urlencode({'q': quoted(term)})}")


def list_url(request: HttpRequest, model: type[Model], **filters: str) -> str:
    """Return the address of a list with its filters; "" if there is none for this user."""
    return _url(request, model, "changelist", (), f"?{urlencode(filters)}" if filters else "")


def may_view(request: HttpRequest, model: type[Model]) -> bool:
    """Tell whether the user may look at the rows of a model."""
    label = model._meta.app_label
    return request.user.has_perm(f"{label}.{get_permission_codename('view', model._meta)}")


def stamp(moment: datetime | None) -> str:
    """Return a point in time in the current zone to the second, all of it on hover."""
    if moment is None:
        return DASH
    return _time(moment, timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S"))


def clock(moment: datetime) -> str:
    """Return the time of a day in the current zone, all of the point in time on hover."""
    return _time(moment, timezone.localtime(moment).strftime("%H:%M:%S"))


def until(moment: datetime | None) -> str:
    """Return how long it is until a point in time, for a list; "now" if it has come."""
    if moment is None:
        return DASH
    left = moment - instants.now()
    text = _("in %(span)s") % {"span": span(left)} if left > timedelta(0) else _("now")
    return _time(moment, text)


def span(length: timedelta) -> str:
    """Return a length of time, short, such as 4.2 ms, 12 s, 3 h."""
    seconds = length.total_seconds()
    if 0 < seconds < 1:
        return f"{grouped(seconds * 1000, 1)} ms"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:.0f} s"


def age(moment: datetime) -> str:
    """Return how long ago something happened; a clock that is ahead of ours makes it 0 s."""
    return span(timedelta(seconds=max(0, round((instants.now() - moment).total_seconds()))))


def many(count: float, most: int) -> str:
    """Return a number of rows that were counted up to `most`; one more stands for more."""
    return f"{grouped(most)}+" if count > most else grouped(count)


def size(count: int) -> str:
    """Return a number of bytes in words."""
    return ngettext("%(count)s byte", "%(count)s bytes", count) % {"count": grouped(count)}


def bytes_short(count: int) -> str:
    """Return a number of bytes, short, such as 12.3 MB; all of it on hover."""
    number, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    text = (
        f"{grouped(number)} {unit}"
        if unit == "B" or number >= 100
        else f"{grouped(number, 1)} {unit}"
    )
    return format_html('<span title="{}">{}</span>', size(count), text)


def _noted(shown: SafeString, note: str) -> SafeString:
    below = format_html('<p class="help">{}</p>', note) if note else ""
    return format_html('<div class="outbox-payload">{}{}</div>', shown, below)


def _time(moment: datetime, text: str) -> SafeString:
    local = timezone.localtime(moment)
    machine = local.isoformat(timespec="milliseconds")  # HTML allows no more digits
    whole = local.isoformat(sep=" ", timespec="microseconds")
    return format_html('<time datetime="{}" title="{}">{}</time>', machine, whole, text)


def _link(
    request: HttpRequest,
    model: type[Model],
    page: str,
    text: Content,
    args: tuple[object, ...],
    query: str = "",
) -> Content:
    url = _url(request, model, page, args, query)
    return format_html('<a href="{}">{}</a>', url, text) if url else text


def _url(
    request: HttpRequest, model: type[Model], page: str, args: tuple[object, ...], query: str
) -> str:
    if not may_view(request, model):
        return ""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
    try:
        url = reverse(name, args=args, current_app=getattr(request, "current_app", None))
    except NoReverseMatch:  # a site that leaves this model out
        return ""
    return f"{url}{query}"
