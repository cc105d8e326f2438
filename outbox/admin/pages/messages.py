"""The tab "Messages": it leads to the list of messages, which the admin has anyway."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext_lazy as _

from outbox.extensions.pages import Page, register_page, site_url
from outbox.models import Message

LIST = "django_outbox_message_changelist"


def to_list(request: HttpRequest, rest: str, context: dict[str, Any]) -> HttpResponse:
    """Lead to the list, with the filter that the address has."""
    address = site_url(request, LIST)
    query = request.META.get("QUERY_STRING", "")
    return HttpResponseRedirect(f"{address}?{query}" if query else address)


PAGE = Page(
    name="messages",
    title=_("Messages"),
    place=20,
    models=[Message],
    view=to_list,
    leads_to=LIST,
)


def register() -> None:
    """Show the tab."""
    register_page(PAGE)
