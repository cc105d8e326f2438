"""The port of the pages under "Messaging" in the admin: whoever has something to show adds to them.

A page is shown in tabs beside the others. Some pages are made of sections, which the outbox, the
relay and the inbox each register; others have views of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from outbox.admin_support.blocks import Block
from outbox.admin_support.html import Content, may_view

if TYPE_CHECKING:
    from django.http import HttpResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page: what `build` returns, read anew every `every` seconds while it is seen.

    `page` and `name` are short words for addresses; sections stand by their `place`, and by name.
    It is shown to staff who may view all of `models`. `build` takes the request and the alias of a
    database, that of `database` or else of the log; it reads by index and without counting what has
    no bound. No statement of it may take longer than `limit` seconds (PostgreSQL). What is `lazy`,
    since it asks others than the database, is built after the page is there, or by a link. What is
    `narrow` stands beside others where there is room.
    """

    page: str
    name: str
    title: Content
    build: Callable[[HttpRequest, str], Iterable[Block]]
    models: Sequence[type[Model]]
    place: int = 100
    every: float = 10.0
    limit: float | None = 1.0
    lazy: bool = False
    narrow: bool = False
    database: Callable[[], str] | None = None

    def may_view(self, request: HttpRequest) -> bool:
        """Tell whether the user may see it."""
        return all(may_view(request, model) for model in self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page with a view of its own; without one, it has the sections of its name.

    `name` is a short word for its address. Pages stand by their `place`. With a view, the page is
    shown to staff who may view all of `models`. The view answers addresses below `name` too, which
    come as its second argument, "" for the page itself; its third is what the template
    "outbox/admin/page.html" takes, which it extends.
    """

    name: str
    title: Content
    place: int
    models: Sequence[type[Model]] = ()
    view: Callable[[HttpRequest, str, dict[str, Any]], HttpResponse] | None = None
    leads_to: str = ""
    """The view of the admin that it leads to, and without which it is not there."""

    def may_view(self, request: HttpRequest) -> bool:
        """Tell whether the user may see it: all of its models, or any of its sections."""
        if self.leads_to and not site_url(request, self.leads_to):
            return False
        if self.view is None:
            return any(each.may_view(request) for each in sections(self.name))
        return all(may_view(request, model) for model in self.models)


FLOW = "flow"
"""The name of the page that shows a conversation."""
FAILURES = "failures"
"""The name of the page that shows what fails alike."""

_pages: dict[str, Page] = {}
_sections: dict[tuple[str, str], Section] = {}


def register_page(page: Page) -> None:
    """Show a page under "Messaging"; a second one of its name replaces the first."""
    _pages[page.name] = page


def register_section(section: Section) -> None:
    """Show a section on its page; a second one of its name there replaces the first."""
    _sections[section.page, section.name] = section


def pages() -> Sequence[Page]:
    """Return all pages as they stand in the tabs."""
    return sorted(_pages.values(), key=lambda page: (page.place, page.name))


def sections(page: str) -> Sequence[Section]:
    """Return the sections of a page from top to bottom."""
    found = (each for each in _sections.values() if each.page == page)
    return sorted(found, key=lambda section: (section.place, section.name))


def flow_link(request: HttpRequest, name: str, text: Content) -> Content:
    """Return a link to the conversation of a correlation id or message id; "" if there is none.

    Nor is there one for who may not see messages, or on a site without the pages.
    """
    url = visible_url(request, FLOW) if name else ""
    return format_html('<a href="{}?{}">{}</a>', url, urlencode({"of": name}), text) if url else ""


def failure_of(source: str, number: int) -> str:
    """Return the address below the page of failures that leads to the group of a row."""
    return f"{source}/of/{number}/"


def failure_link(request: HttpRequest, source: str, number: int, text: Content) -> Content:
    """Return a link to what fails like a row of a source; "" if the user may not see that."""
    url = visible_url(request, FAILURES, failure_of(source, number))
    return format_html('<a href="{}">{}</a>', url, text) if url else ""


def visible_url(request: HttpRequest, name: str, rest: str = "") -> str:
    """Return the address of a page, or of what is below it, if the user may see it; else ""."""
    page = _pages.get(name)
    if page is None or not page.may_view(request):
        return ""
    return page_url(request, name, rest)


def failures_link(request: HttpRequest, source: str, text: Content) -> Content:
    """Return a link to all groups of a source; just the text if the user may not see them."""
    url = visible_url(request, FAILURES)
    return format_html('<a href="{}#{}">{}</a>', url, anchor(source), text) if url else text


def anchor(section: str) -> str:
    """Return the id of a section on its page, by its name."""
    return f"outbox-section-{section}"


def page_url(request: HttpRequest, name: str, rest: str = "") -> str:
    """Return the address of a page, or of what is below it; "" on a site without the pages."""
    view = f"django_outbox_messaging_{'below' if rest else 'page'}"
    return site_url(request, view, name=name, **({"rest": rest} if rest else {}))


def site_url(request: HttpRequest, view: str, **arguments: object) -> str:
    """Return the address of a view of the admin, on the site of a request; "" if it has none."""
    site = getattr(request, "current_app", None)
    try:
        return reverse(f"admin:{view}", kwargs=arguments, current_app=site)
    except NoReverseMatch:
        return ""
