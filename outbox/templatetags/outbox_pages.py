"""The tabs of the pages under "Messaging", for all pages that belong to them."""

from typing import Any

from django import template
from django.template.context import RequestContext
from django.utils.text import capfirst

from outbox.extensions.pages import page_url, pages
from outbox.models import Messaging

register = template.Library()


@register.inclusion_tag("outbox/admin/tabs.html", takes_context=True)
def outbox_tabs(context: RequestContext, chosen: str) -> dict[str, Any]:
    """Show the pages that the user may see, with the one of the name `chosen` as this one."""
    request = context.request
    visible = [(page, page_url(request, page.name)) for page in pages() if page.may_view(request)]
    return {
        "title": capfirst(Messaging._meta.verbose_name_plural),
        "tabs": [(page, url, page.name == chosen) for page, url in visible if url],
    }
