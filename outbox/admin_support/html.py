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
from django.utils.translation import ngettext

Content = str | Promise
"""Text, HTML if it is a SafeString, or a translation of either."""
DASH = "-"


def badge(text: object, kind: str) -> SafeString:
    """Return a small coloured label; `kind` is a state, whose colour outbox/admin.css has."""
    return format_html('<span class="outbox-badge outbox-badge-{}">{}</span>', kind, text)


def code(text: object) -> SafeString:
    """Return an identifier in a fixed-width font, in one line."""
    return format_html('<code class="outbox-code">{}</code>', text)


def block(text: str, note: str = "") -> SafeString:
    """Return preformatted text, with a note below it."""
    return format_html(
        '<div class="outbox-payload"><pre>{}</pre>{}</div>',
        text,
        format_html('<p class="help">{}</p>', note) if note else "",
    )


def detail_link(request: HttpRequest, row: Model, text: Content) -> Content:
    """Return a link to a row's page, or just the text if there is none for this user."""
    return _link(request, type(row), "change", text, (row.pk,))


def search_link(request: HttpRequest, model: type[Model], term: str, text: Content) -> Content:
    """Return a link to the rows of a model that a search for `term` finds."""
    return _link(request, model, "changelist", text, (), f"?{urlencode({'q': term})}")


def may_view(request: HttpRequest, model: type[Model]) -> bool:
    """Tell whether the user may look at the rows of a model."""
    label = model._meta.app_label
    return request.user.has_perm(f"{label}.{get_permission_codename('view', model._meta)}")


def stamp(moment: datetime | None, *, precise: bool = False) -> str:
    """Return a point in time as ISO 8601 in the current zone, to the second or microsecond."""
    if moment is None:
        return DASH
    local = timezone.localtime(moment)
    if precise:
        return local.isoformat(sep=" ")
    return local.strftime("%Y-%m-%d %H:%M:%S")


def span(length: timedelta) -> str:
    """Return a length of time, short, such as 4.2 ms, 12 s, 3 h."""
    seconds = length.total_seconds()
    if 0 < seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:.0f} s"


def age(moment: datetime) -> str:
    """Return how long ago something happened; a clock that is ahead of ours makes it 0 s."""
    return span(timedelta(seconds=max(0, round((timezone.now() - moment).total_seconds()))))


def size(count: int) -> str:
    """Return a number of bytes in words."""
    return ngettext("%(count)s byte", "%(count)s bytes", count) % {"count": f"{count:,}"}


def _link(
    request: HttpRequest,
    model: type[Model],
    page: str,
    text: Content,
    args: tuple[object, ...],
    query: str = "",
) -> Content:
    if not may_view(request, model):
        return text
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
    try:
        url = reverse(name, args=args, current_app=getattr(request, "current_app", None))
    except NoReverseMatch:  # a site that leaves this model out
        return text
    return format_html('<a href="{}{}">{}</a>', url, query, text)
