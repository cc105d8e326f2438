"""What is asked of the page, and what it answers with."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.admin.pages import rendering
from outbox.admin.pages.flow import conversation, key, topology
from outbox.admin.pages.flow.place import Place
from outbox.admin_support.blocks import Apology
from outbox.database.limits import limited
from outbox.extensions.pages import FLOW, Page, page_url, register_page
from outbox.flow.loading import is_name
from outbox.models import Message
from outbox.producer.writing import write_database

LIMIT = 2.0
"""Seconds that a statement of the page may take."""

T = TypeVar("T")


def view(request: HttpRequest, rest: str, context: dict[str, Any]) -> HttpResponse:
    """Answer with a conversation or the messages of a key, by `?of=`; else with the topology.

    What is no conversation, and a key, leads to the messages of the key.
    """
    if rest:
        raise Http404(rest)
    place = Place.asked(request, page_url(request, PAGE.name))
    try:
        blocks = _blocks(request, place, write_database())
    except Exception as exc:  # of a database, say: the form is there, to ask for less
        blocks = [rendering.apology(page_title(place), exc)]
    if blocks is None:
        return HttpResponseRedirect(place.address(by_key=True))
    found = context | {"place": place, "blocks": blocks, "title": page_title(place)}
    return render(request, "outbox/admin/flow.html", found)


def _blocks(request: HttpRequest, place: Place, using: str) -> Sequence[Any] | None:
    if not place.of:
        return _limited(lambda: topology.blocks(request, using), using)
    if not is_name(place.of):
        return [Apology(title=place.of[:100], text=_("Nothing can have this name."))]
    if place.by_key:
        return key.blocks(request, place, using, _limited)
    return conversation.blocks(request, place, using, _limited)


def _limited(read: Callable[[], T], using: str) -> T:
    with limited(using, LIMIT):
        return read()


def page_title(place: Place) -> str:
    """Return what a page is about."""
    return f"{PAGE.title}: {place.of[:100]}" if place.of else str(PAGE.title)


PAGE = Page(name=FLOW, title=gettext_lazy("Flow"), place=50, models=[Message], view=view)


def register() -> None:
    """Show the page."""
    register_page(PAGE)
