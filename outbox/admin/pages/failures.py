"""The page of failures: what fails alike, in a table for each kind that somebody registered."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _

from outbox.admin.pages import failure_actions, rendering
from outbox.admin.pages.failure_groups import show_group, write_note
from outbox.admin.pages.failure_tables import LIMIT, Unreadable, table, url
from outbox.admin_support import html
from outbox.admin_support.blocks import Panel
from outbox.database.limits import limited
from outbox.extensions.failures import FailureSource, source_of, sources
from outbox.extensions.pages import FAILURES, Page, Section, page_url, register_page
from outbox.failures.grouping import find, fingerprint

_REST = re.compile(r"(?P<source>[a-z]+)/(?P<fingerprint>[0-9a-f]{32})/(?:(?P<verb>[a-z]+)/)?")

_OF = re.compile(r"(?P<source>[a-z]+)/of/(?P<number>[0-9]{1,18})/")
"""What leads to the group of a row."""

View = Callable[[HttpRequest, FailureSource, str, dict[str, Any]], HttpResponse]
_VIEWS: dict[str | None, View] = {
    None: show_group,
    "note": write_note,
    "retry": failure_actions.begin,
    "run": failure_actions.run,
    "discard": failure_actions.discard,
    "discarded": failure_actions.discarded,
}


class FailuresPage(Page):
    """Shown to staff who may view the rows of any kind; each sees those that he may view."""

    def may_view(self, request: HttpRequest) -> bool:
        return any(html.may_view(request, source.model) for source in sources())


def view(request: HttpRequest, rest: str, context: dict[str, Any]) -> HttpResponse:
    """Answer with the page, or with what is below it: a group, and what is done about it."""
    if not rest:
        return _all_of_them(request, context)
    if of := _OF.fullmatch(rest):
        return _to_group(request, of["source"], int(of["number"]))
    found = _REST.fullmatch(rest)
    source = source_of(found["source"]) if found else None
    view = _VIEWS.get(found["verb"]) if found else None
    if found is None or source is None or view is None or not html.may_view(request, source.model):
        raise Http404(rest)
    try:
        return view(request, source, found["fingerprint"], context)
    except Unreadable as exc:
        blocks = [rendering.apology(source.title, exc.error)]
        return render(request, "outbox/admin/failures/group.html", context | {"blocks": blocks})


def _to_group(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Go to the group of a row, or to all that fails if the row does not."""
    source = source_of(name)
    if source is None or not html.may_view(request, source.model):
        raise Http404(name)
    using = source.database()
    with limited(using, LIMIT):
        failures = source.named([number], using)
    if failures:
        return HttpResponseRedirect(url(request, source, fingerprint(source.name, failures[0])))
    messages.info(request, _("It does not fail any more."))
    return HttpResponseRedirect(page_url(request, FAILURES))


def _all_of_them(request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    kinds = [_section(each) for each in sources() if html.may_view(request, each.model)]
    return rendering.show(kinds, request, context)


def _section(source: FailureSource) -> Section:
    return Section(
        page=FAILURES,
        name=source.name,
        title=source.title,
        build=partial(_groups, source),
        models=[source.model],
        every=30.0,
        limit=LIMIT,
        database=source.database,
    )


def _groups(source: FailureSource, request: HttpRequest, using: str) -> Iterator[Panel]:
    found = find(source, using)
    yield table(request, source, found, found.groups)


PAGE = FailuresPage(name=FAILURES, title=_("Failures"), place=40, view=view)


def register() -> None:
    """Show the page of failures."""
    register_page(PAGE)
