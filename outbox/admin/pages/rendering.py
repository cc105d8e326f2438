"""Build a page of sections: each by itself, so that one that fails or takes long takes no other."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import Error
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from outbox.admin_support.blocks import Apology, Block, Later
from outbox.admin_support.html import Content
from outbox.conf import outbox_settings
from outbox.database.failures import is_canceled
from outbox.database.limits import limited
from outbox.error_text import describe, masked
from outbox.extensions.pages import Page, Section, anchor, pages, sections
from outbox.producer.writing import write_database

logger = logging.getLogger("outbox")

FRAGMENT = "section"
"""The parameter that names the one section to be read anew."""
SHOW = "show"
"""The parameter that names a lazy section to be read with the page, where no script reads it."""


@dataclass(frozen=True, slots=True)
class Built:
    """A section with what it has to show now; `lazy` if that is yet to be read."""

    section: Section
    blocks: Sequence[Block]
    lazy: bool = False

    @property
    def anchor(self) -> str:
        """The id of its element."""
        return anchor(self.section.name)


def build(section: Section, request: HttpRequest) -> Built:
    """Return a section with its blocks, or with why it has none."""
    using = section.database() if section.database else write_database()
    try:
        with limited(using, section.limit):
            return Built(section, list(section.build(request, using)))
    except Exception as exc:  # of a database, a broker or an adapter: the rest of the page is shown
        return Built(section, [apology(section.title, exc)])


def apology(title: Content, exc: Exception) -> Apology:
    """Return what stands in the place of something that an error kept from being shown."""
    if isinstance(exc, Error) and is_canceled(exc):
        text = _("There is too much of it to be read in time.")
    else:
        logger.warning("Section %s cannot be shown: %s", title, describe(exc))
        reason = masked(describe(exc), tuple(outbox_settings().REDACT))
        text = _("It cannot be shown: %(reason)s") % {"reason": reason}
    return Apology(title=title, text=text)


def _first(section: Section, request: HttpRequest) -> Built:
    """Return what the page has of a section at once."""
    if not section.lazy or request.GET.get(SHOW) == section.name:
        return build(section, request)
    later = Built(section, (), lazy=True)
    url = f"?{urlencode({SHOW: section.name})}#{later.anchor}"
    return replace(later, blocks=[Later(title=section.title, url=url)])


def respond(page: Page, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Answer with a page of sections, or with the one that is asked for alone."""
    return show([each for each in sections(page.name) if each.may_view(request)], request, context)


def show(visible: Sequence[Section], request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
    """Answer with sections, or with the one that is asked for alone."""
    if wanted := request.GET.get(FRAGMENT):
        chosen = next((each for each in visible if each.name == wanted), None)
        if chosen is None:
            raise Http404(wanted)
        return render(
            request, "outbox/admin/section.html", {"built": build(chosen, request), "live": True}
        )
    built = [_first(each, request) for each in visible]
    return render(request, "outbox/admin/page.html", context | {"sections": built})


def visible_pages(request: HttpRequest) -> list[Page]:
    """Return the pages that a user may see."""
    return [page for page in pages() if page.may_view(request)]
