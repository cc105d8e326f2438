"""What is asked of the page, and what it answers with."""

from collections.abc import Sequence
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.admin.pages import rendering
from outbox.admin.pages.reconciliation import calendar, hour
from outbox.admin.pages.reconciliation.place import PAGE as NAME
from outbox.admin.pages.reconciliation.place import Place
from outbox.admin_support.blocks import Panel
from outbox.database.limits import limited
from outbox.exceptions import ConfigurationError
from outbox.extensions.pages import Page, page_url, register_page
from outbox.models import Break, Reconciliation
from outbox.producer.writing import write_database
from outbox.statements.buckets import HOUR, floor
from outbox.statements.conf import PeerSettings, peers

LIMIT = 2.0
"""Seconds that a statement of the page may take."""


def view(request: HttpRequest, rest: str, context: dict[str, Any]) -> HttpResponse:
    """Answer with the calendar of a group, of the first one by default; or with a part of it."""
    using, wanted = write_database(), rest.removesuffix("/")
    groups = sorted(Reconciliation.objects.using(using).values_list("group", flat=True))
    if wanted and wanted not in groups:
        raise Http404(wanted)
    place = Place.asked(request, wanted or next(iter(groups), ""))
    try:
        with limited(using, LIMIT):
            blocks = _blocks(request, place, using)
    except Exception as exc:  # of a database, say: there is another day to look at
        blocks = [rendering.apology(PAGE.title, exc)]
    tabs = [(each, page_url(request, NAME, f"{each}/"), each == place.group) for each in groups]
    up, title = _above(place)
    shown = {"place": place, "blocks": blocks, "up": up, "up_title": title}
    shown["groups"] = tabs if len(tabs) > 1 else []
    return render(request, "outbox/admin/reconciliation/page.html", context | shown)


def _above(place: Place) -> tuple[str, str]:
    """Return the address and the name of what the page is a part of; "" for the calendar."""
    if place.bucket is not None:
        above = floor(place.bucket, HOUR) if place.hour is None else place.hour
        return place.address(bucket=None, hour=above), _("The hour")
    if place.hour is not None:
        return place.address(hour=None), _("Days and hours")
    return "", ""


def _blocks(request: HttpRequest, place: Place, using: str) -> Sequence[Any]:
    row = Reconciliation.objects.using(using).filter(group=place.group).first()
    if row is None:
        return [Panel(title=_("Groups"), empty=_why_none())]
    width = _settings(place.group).bucket
    if place.bucket is not None:
        return hour.bucket_blocks(request, place, row, width, using)
    if place.hour is not None:
        return hour.hour_blocks(request, place, row, width, using)
    return calendar.blocks(request, place, row, using)


def _settings(group: str) -> PeerSettings:
    try:
        return peers().get(group, PeerSettings())
    except ConfigurationError:  # which a system check tells
        return PeerSettings()


def _why_none() -> str:
    try:
        is_set = bool(peers())
    except ConfigurationError as exc:
        return str(exc)
    if is_set:
        return _("No round has been run yet: a consumer of this service does it.")
    return _("This service compares with no group: RECONCILE is not set.")


PAGE = Page(
    name=NAME,
    title=gettext_lazy("Reconciliation"),
    place=65,
    models=[Reconciliation, Break],
    view=view,
)


def register() -> None:
    """Show the page."""
    register_page(PAGE)
